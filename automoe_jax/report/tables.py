"""Results as a table for the terminal, Markdown and (through `columns`) the page."""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from automoe_jax.report import numbers
from automoe_jax.report.contents import number
from automoe_jax.report.rows import DENSE, Row, find

TERMINAL_WIDTH = 100
LONGEST_NAME = 40


@dataclasses.dataclass(frozen=True)
class Column:
    """One measure of the results table."""

    title: str
    explanation: str
    value: Callable[[Row], float | None]
    show: Callable[[float | None], str]
    # max or min: more or less is better
    best: Callable[[Sequence[float]], float] | None = None
    # columns with the highest numbers are dropped first if space is short
    importance: int = 0

    def text(self, row: Row) -> str:
        return self.show(self.value(row))

    def is_best(self, row: Row, results: Sequence[Row]) -> bool:
        """Whether the row has the best value, among at least two different ones."""
        values = [value for value in map(self.value, results) if value is not None]
        own = self.value(row)
        return (
            self.best is not None
            and own is not None
            and len(set(values)) > 1
            and own == self.best(values)
        )


def columns(results: Sequence[Row]) -> list[Column]:
    """The measures that at least one row has, in the order they are shown."""
    return [
        column
        for column in _all_columns(results)
        if any(column.value(row) is not None for row in results)
    ]


def _all_columns(results: Sequence[Row]) -> list[Column]:
    return [*_score_columns(), *_cost_columns(results), *_time_columns()]


def _score_columns() -> list[Column]:
    return [
        Column("BLEU", "higher is better", _value("bleu"), numbers.score, max),
        Column("chrF", "higher is better", _value("chrf"), numbers.score, max),
        Column("accuracy %", "higher is better", _value("accuracy"), numbers.score, max),
        Column(
            "macro F1",
            "the mean F1 of the classes; higher is better",
            _value("macro_f1"),
            numbers.score,
            max,
        ),
    ]


def _cost_columns(results: Sequence[Row]) -> list[Column]:
    flops = numbers.unit_of(number(row, "flops") for row in results)
    params = numbers.unit_of(number(row, "params") for row in results)
    dense = number(find(results, DENSE), "flops")
    return [
        Column(
            f"{flops.prefix}FLOPs",
            "of one sentence, vocabulary projection left out",
            _value("flops"),
            flops.show,
            min,
            1,
        ),
        Column(
            f"as routed {flops.prefix}",
            "FLOPs with the experts that the text's tokens got",
            _value("flops_measured"),
            flops.show,
            None,
            9,
        ),
        Column(
            "vs dense",
            "FLOPs relative to the largest dense Transformer",
            _relative(dense),
            _times,
            None,
            2,
        ),
        Column(
            f"+ vocab {flops.prefix}",
            "FLOPs with the vocabulary projection",
            _value("flops_with_vocabulary"),
            flops.show,
            None,
            8,
        ),
        Column(
            f"params {params.prefix}", "without embeddings", _value("params"), params.show, None, 3
        ),
        Column(
            f"active {params.prefix}",
            "parameters a token meets, on average",
            _value("active_params"),
            params.show,
            None,
            4,
        ),
    ]


def _time_columns() -> list[Column]:
    return [
        Column(
            "ms",
            "of a sentence with the deployed engine, under the conditions of search.device",
            _value("deployed_ms"),
            _rate,
            min,
            1,
        ),
        Column(
            "deployed sent./s",
            "in batches of 32, with the deployed engine",
            _value("deployed_sentences_per_second"),
            _rate,
            max,
            2,
        ),
        Column(
            "trained on",
            "target tokens, or texts that are classified",
            _value("train_tokens"),
            numbers.count,
            None,
            7,
        ),
        Column("train time", "wall clock", _value("train_seconds"), numbers.duration, None, 6),
        Column(
            "sent./s",
            "sentences decoded per second",
            _value("decode_sentences_per_second"),
            _rate,
            max,
            5,
        ),
    ]


def _value(key: str) -> Callable[[Row], float | None]:
    return lambda row: number(row, key)


def _relative(dense: float | None) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        flops = number(row, "flops")
        return flops / dense if flops is not None and dense else None

    return value


def _times(value: float | None) -> str:
    return numbers.MISSING if value is None else f"{value:.2f}×"


def _rate(value: float | None) -> str:
    return numbers.MISSING if value is None else numbers.significant(value)


def results_table(results: Sequence[Row]) -> str:
    """The results as an aligned Markdown table of at most 100 columns, with the scores' signatures
    beneath.
    """
    if not results:
        return "No results."
    shown = columns(results)
    cells = _cells(results, shown)
    while _width(cells) > TERMINAL_WIDTH and len(shown) > 1:
        shown.remove(max(shown, key=lambda column: column.importance))
        cells = _cells(results, shown)
    return "\n".join(
        [_aligned(cells), *[f"{name}: {signature}" for name, signature in signatures(results)]]
    )


def markdown_table(results: Sequence[Row]) -> str:
    """The results with every measure and the notes; the best of a column is bold."""
    shown = columns(results)
    rows = []
    for row in results:
        note = f"<br><sub>{markdown_text(row.note)}</sub>" if row.note else ""
        values = [f"**{c.text(row)}**" if c.is_best(row, results) else c.text(row) for c in shown]
        rows.append([markdown_text(row.title) + note, *values])
    return markdown_rows(["system", *[column.title for column in shown]], rows)


def markdown_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table of finished cells: the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def markdown_text(value: Any) -> str:
    """`value` as one line of inert Markdown: without formatting, links, HTML or table borders."""
    line = " ".join(str(value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]|~$#])", r"\\\1", line)
    # A zero-width joiner prevents links from addresses and mentions.
    return re.sub(r"(?i)(https?:|www\.|@)", lambda match: f"{match.group()}&#8288;", line)


def signatures(results: Sequence[Row]) -> list[tuple[str, str]]:
    """(measure, sacreBLEU's signature), each different signature once."""
    pairs = [("BLEU", row.bleu_signature) for row in results]
    pairs += [("chrF", row.chrf_signature) for row in results]
    return [pair for pair in dict.fromkeys(pairs) if pair[1]]


def _cells(results: Sequence[Row], shown: Sequence[Column]) -> list[list[str]]:
    """Head and rows as text."""
    head = ["system", *[column.title for column in shown]]
    return [
        head,
        *[[_short(row.title), *[column.text(row) for column in shown]] for row in results],
    ]


def _short(name: str) -> str:
    line = " ".join(name.split()).replace("|", "\\|")
    while _display_width(line) > LONGEST_NAME:
        line = line.rstrip("…")[:-1].rstrip("\\") + "…"
    return line


def _display_width(text: str) -> int:
    """Terminal cells that `text` takes: two for wide East Asian characters, none for combining
    ones.
    """
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(3, *(_display_width(row[i]) for row in cells)) for i in range(len(cells[0]))]


def _width(cells: Sequence[Sequence[str]]) -> int:
    return sum(_widths(cells)) + 3 * len(cells[0]) + 1


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    widths = _widths(cells)
    rule = ["-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]]]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(
        "| "
        + " | ".join(
            _pad(cell, width, i > 0)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _display_width(text))
    return space + text if right else text + space
