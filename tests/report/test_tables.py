"""Results table of the terminal, its Markdown form, the headline, and formatting of numbers."""

import dataclasses

import pytest

from automoe_jax.report import ReportContents, Role, Row, numbers, results_table
from automoe_jax.report.headline import caveats, headline
from automoe_jax.report.tables import markdown_table, markdown_text


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]


def found(bleu: float | None, flops: float | None) -> Row:
    return Row(Role.RETRAINED, bleu=bleu, flops=flops, params=1.0)


def dense(bleu: float | None, flops: float | None) -> Row:
    return Row(Role.DENSE, bleu=bleu, flops=flops, params=2.0)


def test_terminal_table_is_aligned_and_narrow(contents: ReportContents) -> None:
    lines = results_table(contents.results).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({len(line) for line in table}) == 1
    assert max(map(len, lines)) <= 100
    assert len({len(cells(line)) for line in table}) == 1
    assert cells(table[0])[:3] == ["system", "BLEU", "chrF"]
    assert cells(table[2])[:5] == ["retrained sub-Transformer", "78.3", "87.3", "9.00", "0.43×"]
    assert cells(table[-1])[1] == "–"
    assert lines[-1].startswith("BLEU: nrefs:1")


def test_terminal_table_with_long_and_wide_names() -> None:
    rows = [
        Row(Role.BASELINE, "a | very " * 20, bleu=1.0),
        Row(Role.BASELINE, "日本語の翻訳" * 9, bleu=22.0),
        Row(Role.BASELINE),
    ]
    table = results_table(rows).splitlines()
    assert len({len(cells(line)) for line in table}) == 1
    assert all(len(line) <= 100 for line in table)
    assert "…" in table[2]
    assert "…" in table[3]


def test_markdown_table_is_well_formed(contents: ReportContents) -> None:
    lines = markdown_table(contents.results).splitlines()
    assert len({len(cells(line)) for line in lines}) == 1
    assert cells(lines[1])[:2] == ["---", "---:"]
    assert "**79.0**" in lines[4]
    assert "**9.00**" in lines[2]


def test_no_results() -> None:
    assert results_table([]) == "No results."


def test_markdown_text_is_inert() -> None:
    assert (
        markdown_text("a|b\n# *c* `d` <i> [e](f)")
        == "a\\|b \\# \\*c\\* \\`d\\` &lt;i&gt; \\[e\\](f)"
    )


def timed(row: Row, milliseconds: float) -> Row:
    return dataclasses.replace(row, deployed_ms=milliseconds)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "The found translator has no score yet."),
        ([dense(79.0, 2e6)], "The found translator has no score yet."),
        ([found(None, 1e6)], "The found translator has no score yet."),
        ([found(78.3, None)], "The found translator reaches 78.3 BLEU."),
        ([found(78.3, 3.1e7)], "The found translator reaches 78.3 BLEU at 31.0 MFLOPs."),
        (
            [found(78.3, 3.1e9), dense(None, 1e10)],
            "The found translator reaches 78.3 BLEU at 3.10 GFLOPs.",
        ),
        (
            [found(78.3, None), dense(79.0, 1e7)],
            "The found translator reaches 78.3 BLEU; the largest dense one reaches 79.0 BLEU.",
        ),
        (
            [found(78.3, 3.1e7), dense(79.02, 7.44e7)],
            (
                "The found translator reaches 78.3 BLEU at 31.0 MFLOPs: 2.4× fewer than the largest"
                " dense one (79.0 BLEU)."
            ),
        ),
        (
            [found(80.0, 9e7), dense(79.0, 1e8)],
            (
                "The found translator reaches 80.0 BLEU at 90.0 MFLOPs: 10% fewer than the largest"
                " dense one (79.0 BLEU)."
            ),
        ),
        (
            [found(80.0, 1.005e8), dense(79.0, 1e8)],
            (
                "The found translator reaches 80.0 BLEU at 100 MFLOPs, the same cost as the largest"
                " dense one (79.0 BLEU)."
            ),
        ),
        (
            [found(80.0, 1.2e8), dense(79.0, 1e8)],
            (
                "The found translator reaches 80.0 BLEU at 120 MFLOPs: 20% more than the largest"
                " dense one (79.0 BLEU)."
            ),
        ),
        (
            [found(70.0, 1.2e8), dense(79.0, 1e8)],
            (
                "The found translator reaches 70.0 BLEU at 120 MFLOPs; the largest dense one is"
                " cheaper and not worse, 79.0 BLEU at 100 MFLOPs."
            ),
        ),
        (
            [timed(found(70.0, 1e8), 2.0), timed(dense(71.0, 1e8), 3.0)],
            (
                "The found translator takes 2.00 ms for a sentence: 1.5× faster than the largest"
                " dense one (3.00 ms), with 70.0 BLEU against 71.0."
            ),
        ),
        (
            [timed(found(70.0, 1e8), 3.0), timed(dense(71.0, 1e8), 2.0)],
            (
                "The found translator takes 3.00 ms for a sentence: 1.5× slower than the largest"
                " dense one (2.00 ms), with 70.0 BLEU against 71.0."
            ),
        ),
        (
            [timed(found(70.0, 1e8), 2.0)],
            "The found translator takes 2.00 ms for a sentence, with 70.0 BLEU.",
        ),
    ],
)
def test_headline(rows: list[Row], sentence: str) -> None:
    assert headline(rows) == sentence


def test_caveats_name_what_is_better() -> None:
    rows = [
        found(10.0, 1e6),
        Row(Role.INHERITED, bleu=12.0, params=1.0),
        Row(Role.BASELINE, "word_by_word", bleu=11.0),
    ]
    inherited, baseline, run = caveats(rows, 3)
    assert "without retraining (12.0 BLEU)" in inherited
    assert "“word by word” (11.0 BLEU)" in baseline
    assert run == "One run with seed 3; no significance test."
    assert caveats([], 0) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0314159, "0.0314"),
        (31.449, "31.4"),
        (999.7, "1,000"),
        (123456.0, "123,456"),
        (9.999, "10.0"),
        (3e-12, "3.00e-12"),
    ],
)
def test_significant_digits(value: float, text: str) -> None:
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7322, "2 h 02 min"),
        (None, "–"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert numbers.duration(seconds) == text
