"""The report as files: well formed, self-contained, escaped, deterministic, and robust where pieces
are missing.
"""

import ast
import collections
import dataclasses
import html.parser
import math
import pathlib
import re
import xml.etree.ElementTree

import pytest

import automoe_jax.report
from automoe_jax.arch import MAX_EXPERTS, MAX_LAYERS, make
from automoe_jax.report import ReportContents, Role, Row, RowKey, Sample, write_report
from automoe_jax.report.headline import headline
from automoe_jax.report.plots import layer_names
from automoe_jax.report.rows import DENSE, RETRAINED
from tests.report.candidates import candidate

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Parses a page and stores the parts that tests check; raises if tags are not balanced."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: collections.Counter[str] = collections.Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "data", "action")
        ]
        self.links += [
            link for _, value in attrs for link in re.findall(r"url\(([^)]*)\)", value or "")
        ]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def written(contents: ReportContents, folder: pathlib.Path) -> tuple[str, str]:
    """The page and the document, after checks that hold for every report."""
    page_path, document_path = write_report(contents, folder)
    page, document = page_path.read_text(), document_path.read_text()
    parsed = Page(page)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert all(
        link.startswith("data:image/png") or link.removeprefix("#") in parsed.ids
        for link in parsed.links
    )
    assert not parsed.tags["script"]
    assert not re.search(r"<style[^>]*>[^<]*(@import|url\()", page)
    for name in re.findall(r"\]\((figures/[^)]*)\)", document):
        xml.etree.ElementTree.parse(folder / name)
    assert not list(folder.rglob("*.tmp"))
    return page, document


@pytest.fixture(scope="module")
def report(contents: ReportContents, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return written(contents, tmp_path_factory.mktemp("report"))


def test_shows_every_piece(report: tuple[str, str], contents: ReportContents) -> None:
    page, document = report
    text = " ".join(Page(page).text.split())
    for row in contents.results:
        assert row.title in text
        assert row.title in document
    shown = [
        "78.3",
        "87.3",
        "9.00",
        "0.43×",
        "0.450",
        "0.225",
        "2.05",
        "M",
        "1",
        "min",
        "28",
        "s",
        "61.2",
        "21.4",
        "79.0",
        "21.0",
        "1.00×",
    ]
    for piece in [
        *shown,
        "20,123",
        "1,001",
        "4,321",
        "from scratch",
        contents.command,
        "2 × CPU",
        "0.10.2",
        "2025-06-03",
    ]:
        assert piece in text, piece
        assert piece in document, piece
    assert headline(contents.results) in text
    assert "nrefs:1|case:mixed" in text
    assert len(re.findall(r"\(figures/", document)) == 6


def test_escapes_what_comes_from_outside(report: tuple[str, str]) -> None:
    page, document = report
    for text in (page, document):
        assert "<script" not in text
        assert "<img" not in text
    parsed = Page(page)
    assert "<script>alert(1)</script>" in parsed.text
    assert "Toy <English> & German" in parsed.text
    assert "green \\| table" in document


def test_hostile_names_and_characters(contents: ReportContents, tmp_path: pathlib.Path) -> None:
    bad = "</title><script>\"'&|`*\x00\x1b\ud800 javascript:x"
    hostile = dataclasses.replace(
        contents,
        title=bad,
        device=bad,
        versions={bad: bad},
        config={bad: bad, "data.source_language": bad},
        data_statistics={bad: {bad: {bad: bad}}, "list": list(range(99))},
        results=[Row(Role.BASELINE, bad, bleu=1.0, note=bad, bleu_signature=bad)],
        samples=[Sample(bad, bad, {RowKey(Role.BASELINE, bad): bad})],
        candidates=[candidate(1.0, 2.0, bad)],
        stage_seconds={bad: 1.0},
    )
    page, document = written(hostile, tmp_path)
    assert "<script" not in page
    assert "<script" not in document


def test_what_cleaning_left_out(contents: ReportContents, tmp_path: pathlib.Path) -> None:
    example = {"place": "a.tsv, line 3", "source": "<b>OK", "target": "ok|", "near": ""}
    removal = {"rule": "pairs of identical sides removed", "setting": "config.x", "count": 1234}
    none = {"rule": "nothing", "setting": "config.y", "count": 0, "examples": []}
    removals = [removal | {"examples": [example]}, none]
    write_report(dataclasses.replace(contents, removals=removals), tmp_path)
    page, text = (tmp_path / f"report.{end}" for end in ("html", "md"))
    assert "<td>a.tsv, line 3</td><td>&lt;b&gt;OK</td><td>ok|</td>" in page.read_text()
    assert "| pairs of identical sides removed | 1" in text.read_text()
    assert "ok\\|" in text.read_text()
    assert ">nothing<" not in page.read_text()


def test_same_contents_same_bytes(
    contents: ReportContents, report: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    assert written(contents, tmp_path) == report


def test_nothing_but_an_architecture(contents: ReportContents, tmp_path: pathlib.Path) -> None:
    page, document = written(
        ReportContents(title="bare", arch=contents.arch, space=contents.space), tmp_path
    )
    for sentence in (
        "Nothing was scored.",
        "No candidate with a finite loss",
        "No loss was recorded.",
        "No sample was recorded.",
    ):
        assert sentence in page
        assert sentence in document


def test_numbers_that_are_none(contents: ReportContents, tmp_path: pathlib.Path) -> None:
    nan, infinite = math.nan, math.inf
    broken = dataclasses.replace(
        contents,
        results=[
            Row(Role.RETRAINED, bleu=nan, flops=infinite),
            Row(Role.DENSE),
        ],
        candidates=[candidate(nan, 1e6, "random"), candidate(infinite, 2e6, "random")],
        pareto=[candidate(nan, 1.0, "random")],
        curves={
            Role.SUPERNET: [],
            Role.RETRAINED: [{"step": 1, "nll": nan, "loss": infinite}, {"routing_entropy": [1.0]}],
            Role.DENSE: [{"step": 5, "nll": 0.0}],
        },
        costs={"flops": nan, "params": 0},
        limits={"max_flops": nan},
        stage_seconds={"prepare": nan},
        data_statistics={"share": nan, "none": None},
    )
    page, _ = written(broken, tmp_path)
    assert "has no score yet" in page
    assert "No candidate with a finite loss" in page
    assert "NaN" not in page


def test_one_point_and_constant_curves(contents: ReportContents, tmp_path: pathlib.Path) -> None:
    curves = {
        Role.SUPERNET: [
            {"step": 1, "nll": 3.0, "validation_nll": 3.0, "routing_entropy": [0.0] * 5}
        ],
        Role.RETRAINED: [{"step": s, "nll": 3.0} for s in (1, 2)],
    }
    page, markdown = written(
        dataclasses.replace(contents, curves=curves, candidates=contents.candidates[:1], pareto=[]),
        tmp_path,
    )
    assert 'id="figure-loss"' in page
    assert 'id="figure-routing_entropy"' in page
    collapsed = (
        "of the SuperNet, one expert got nearly every token in layers 1, 2, 3, 4, 5 (counted"
    )
    assert collapsed in page
    assert collapsed in markdown
    drawn = dataclasses.replace(contents, curves=curves, config={"router.kind": "random"})
    page, _ = written(drawn, tmp_path)
    assert "nearly every token" not in page


def test_largest_architecture_and_long_sentences(
    contents: ReportContents, tmp_path: pathlib.Path
) -> None:
    widths = [0] + [3072 - 7 * e for e in range(MAX_EXPERTS - 1)]
    layer = {
        "self_heads": 16,
        "cross_heads": 16,
        "cross_layers": MAX_LAYERS,
        "expert_ffn_dims": widths,
        "top_k": 2,
    }
    encoder = [
        {name: layer[name] for name in ("self_heads", "expert_ffn_dims", "top_k")}
    ] * MAX_LAYERS
    arch = make(
        qkv_dim=512,
        encoder_embed_dim=640,
        decoder_embed_dim=512,
        encoder=encoder,
        decoder=[layer] * MAX_LAYERS,
    )
    samples = [Sample("word " * 2000, "Wort " * 2000, {RETRAINED: "Wort" * 9000})]
    page, document = written(
        dataclasses.replace(contents, arch=arch, samples=samples, curves={}), tmp_path
    )
    # two sides, two forms of the figure
    assert page.count("identity</title>") == 2 * 2 * MAX_LAYERS
    for found in re.findall(
        r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"',
        (tmp_path / "figures/architecture.svg").read_text(),
    ):
        assert sum(map(float, found)) <= 1000.5
    assert "Wort" * 9000 in document


def test_a_classifier_is_drawn_without_a_decoder(
    contents: ReportContents, tmp_path: pathlib.Path
) -> None:
    encoder = [{"self_heads": 4, "expert_ffn_dims": [128, 64], "top_k": 1}]
    arch = make(qkv_dim=64, encoder_embed_dim=64, decoder_embed_dim=48, encoder=encoder, decoder=[])
    space = dataclasses.replace(contents.space, decoder_layers=(0,), decoder_embed_dims=(48,))
    _, document = written(
        dataclasses.replace(contents, arch=arch, space=space, curves={}), tmp_path
    )
    drawing = (tmp_path / "figures/architecture.svg").read_text()
    assert "No decoder." in drawing
    assert "No decoder." in document
    assert ">Encoder<" in drawing
    assert ">Decoder<" not in drawing


def test_the_hypervolume_is_drawn_with_its_reference_point(
    contents: ReportContents, tmp_path: pathlib.Path
) -> None:
    page, document = written(dataclasses.replace(contents, curves={}), tmp_path)
    assert 'id="figure-hypervolume"' in page
    assert "![Hypervolume of the Pareto front" in document
    assert "Reference point: loss 5.25, flops 21,000,000." in document
    one = {"reference": {}, "by_generation": [0.3]}
    page, _ = written(dataclasses.replace(contents, curves={}, hypervolume=one), tmp_path)
    assert "figure-hypervolume" not in page, "one generation is no curve"


def test_the_time_and_its_limit_have_a_tile(
    contents: ReportContents, tmp_path: pathlib.Path
) -> None:
    times = {RETRAINED: 1.78, DENSE: 2.35}
    rows = [dataclasses.replace(one, deployed_ms=times.get(one.key)) for one in contents.results]
    limits = {"max_latency_ms": 20.0, "max_latency_share": 0.8}
    changed = dataclasses.replace(contents, results=rows, limits=limits, curves={})
    page, _ = written(changed, tmp_path)
    assert '<dt>Time of one sentence</dt><dd><span class="value">1.78</span>' in page
    assert "limit 20 ms, 0.76 of the largest dense one, limit 0.80" in page
    assert "Limits: max_latency_ms = 20, max_latency_share = 0.8." in page
    page, _ = written(dataclasses.replace(contents, curves={}), tmp_path)
    assert "Time of one sentence" not in page
    found = dataclasses.replace(
        contents.candidates[-1], costs={**contents.candidates[-1].costs, "latency_ms": 1.5}
    )
    page, _ = written(dataclasses.replace(changed, candidates=[found], pareto=[found]), tmp_path)
    assert "1.5 ms" in page
    assert "<tr><td>ms</td>" in page, "a row of tighter budgets"


def test_ten_thousand_candidates_make_no_heavy_page(
    contents: ReportContents, tmp_path: pathlib.Path
) -> None:
    many = [
        candidate(2 + math.sin(i) + i % 97 / 50, 1e9 + 1e5 * i, ("random", "mutation")[i % 2])
        for i in range(10_000)
    ]
    page, _ = written(
        dataclasses.replace(contents, candidates=many, pareto=many[:200], curves={}), tmp_path
    )
    assert len(page) < 2_000_000
    assert "random (5,000)" in page


def test_names_of_layers(contents: ReportContents) -> None:
    assert layer_names(5, contents.arch, contents.space) == [
        "encoder 1",
        "encoder 2",
        "encoder 3",
        "decoder 1",
        "decoder 2",
    ]
    assert layer_names(3, contents.arch, contents.space) == ["encoder 1", "encoder 2", "decoder 1"]
    assert layer_names(4, contents.arch, contents.space)[-1] == "layer 4"


def test_an_interrupted_write_leaves_the_old_report(
    contents: ReportContents, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = ReportContents(title="bare", arch=contents.arch, space=contents.space)
    page, _ = write_report(bare, tmp_path)
    before = page.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(dataclasses.replace(bare, title="new"), tmp_path)
    assert page.read_bytes() == before
    assert not list(tmp_path.rglob(".*.tmp"))


def test_imports_neither_jax_nor_the_model() -> None:
    folder = pathlib.Path(automoe_jax.report.__file__).parent
    allowed = {
        "automoe_jax.arch",
        "automoe_jax.space",
        "automoe_jax.costs",
        "automoe_jax.config",
        "automoe_jax.names",
        "automoe_jax.report",
        "automoe_jax.routers",
        "automoe_jax.search",
    }
    single = {"automoe_jax.runtime.files", "automoe_jax.train.routing"}  # import no JAX either
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in getattr(node, "names", []) if isinstance(node, ast.Import)]
            ):
                assert not name.startswith(("jax", "flax")), path
                assert (
                    not name.startswith("automoe_jax")
                    or ".".join(name.split(".")[:2]) in allowed
                    or name in single
                ), path


def test_stopped_candidates_are_told_apart(
    contents: ReportContents, tmp_path: pathlib.Path
) -> None:
    some = [
        dataclasses.replace(one, share=0.25 if i % 2 else 1.0)
        for i, one in enumerate(contents.candidates)
    ]
    page, text = written(dataclasses.replace(contents, candidates=some), tmp_path)
    stopped = len(some) // 2
    assert f"stopped early ({stopped})" in page
    assert f"stopped early ({stopped}): their losses are estimates" in text
    page, text = written(contents, tmp_path)
    assert "stopped early" not in page + text
