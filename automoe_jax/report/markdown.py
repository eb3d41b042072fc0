"""`report.md`: the same report for GitHub or an editor, with the figures as files."""

from collections.abc import Callable, Mapping

from automoe_jax.report import drawing, numbers, tables
from automoe_jax.report.contents import ReportContents, number
from automoe_jax.report.figures import TITLES, Figures
from automoe_jax.report.headline import caveats, headline
from automoe_jax.report.rows import Sample
from automoe_jax.report.sections import (
    CAPTIONS,
    IN_WORDS,
    NOTHING,
    REMOVAL_COLUMNS,
    SECTIONS,
    architecture_caption,
    collapse_note,
    count_note,
    dead_note,
    flat,
    hypervolume_caption,
    removal_rows,
    routing_figures,
    search_caption,
)
from automoe_jax.report.tables import markdown_rows, markdown_text
from automoe_jax.report.text import clean, escape

FOLDER = "figures"


def markdown_page(contents: ReportContents, drawn: Figures) -> str:
    """The whole document; figures are files named after them in `FOLDER`."""
    blocks = [
        f"# {markdown_text(contents.title)}",
        f"**{markdown_text(headline(contents.results))}**",
    ]
    blocks += [" ".join(markdown_text(note) for note in caveats(contents.results, contents.seed))]
    for section, title in SECTIONS.items():
        body = [block for block in _SECTIONS[section](contents, drawn) if block]
        blocks += [f"## {title}", *body] if body else []
    return clean("\n\n".join(block for block in blocks if block) + "\n")


def _results(contents: ReportContents, drawn: Figures) -> list[str]:
    if not contents.results:
        return [NOTHING["results"]]
    scores = "<br>".join(
        f"{name} {_code(signature)}" for name, signature in tables.signatures(contents.results)
    )
    return [tables.markdown_table(contents.results), count_note(contents), scores]


def _architecture(contents: ReportContents, drawn: Figures) -> list[str]:
    return [
        _image("architecture", drawn),
        architecture_caption(contents),
        _folded(IN_WORDS, markdown_text(drawing.describe(contents.arch))),
    ]


def _search(contents: ReportContents, drawn: Figures) -> list[str]:
    if "search" not in drawn:
        return [NOTHING["search"]]
    shown = [_image("search", drawn), markdown_text(search_caption(contents))]
    if "hypervolume" in drawn:
        shown += [_image("hypervolume", drawn), markdown_text(hypervolume_caption(contents))]
    return shown


def _training(contents: ReportContents, drawn: Figures) -> list[str]:
    return [_image("loss", drawn), CAPTIONS["loss"]] if "loss" in drawn else [NOTHING["training"]]


def _routing(contents: ReportContents, drawn: Figures) -> list[str]:
    keys = [
        *(key for key, _ in routing_figures(contents)),
        *(["experts_shares"] if "experts_shares" in drawn else []),
    ]
    shown = [text for key in keys for text in (_image(key, drawn), CAPTIONS[key])]
    return [*shown, collapse_note(contents), dead_note(contents)]


def _samples(contents: ReportContents, drawn: Figures) -> list[str]:
    if not contents.samples:
        return [NOTHING["samples"]]
    return [_sample(i, sample) for i, sample in enumerate(contents.samples, 1)]


def _sample(number: int, sample: Sample) -> str:
    texts = {"source": sample.source, "reference": sample.reference}
    texts |= {key.title: output for key, output in sample.outputs.items()}
    rows = [[markdown_text(name), markdown_text(text)] for name, text in texts.items()]
    return markdown_rows(["", f"sample {number}"], rows).replace("---:", ":---")


def _data(contents: ReportContents, drawn: Figures) -> list[str]:
    rows = flat(contents.data_statistics)
    parts = [_table(["statistic", "value"], rows)] if rows else [NOTHING["data"]]
    left_out = [list(map(markdown_text, row)) for row in removal_rows(contents.removals)]
    return parts + ([markdown_rows(list(REMOVAL_COLUMNS), left_out)] if left_out else [])


def _reproduce(contents: ReportContents, drawn: Figures) -> list[str]:
    fence = "`" * (3 + contents.command.count("`"))
    facts = {
        "seed": contents.seed,
        "date": contents.date,
        "device": contents.device,
        **contents.versions,
    }
    facts |= {
        f"time of {stage}": numbers.duration(number(contents.stage_seconds, stage))
        for stage in contents.stage_seconds
    }
    rows = [(name, str(value)) for name, value in facts.items() if value != ""]
    settings = [(str(name), numbers.plain(value)) for name, value in contents.config.items()]
    return [
        f"{fence}\n{contents.command}\n{fence}" if contents.command else "",
        _table(["", ""], rows),
        _folded(f"All {len(settings)} settings", _table(["setting", "value"], settings))
        if settings
        else "",
    ]


def _table(head: list[str], rows: list[tuple[str, str]]) -> str:
    return markdown_rows(
        head, [[markdown_text(name), markdown_text(value)] for name, value in rows]
    )


def _image(name: str, drawn: Figures) -> str:
    return f"![{TITLES[name]}]({FOLDER}/{name}.svg)" if name in drawn else ""


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def _code(text: str) -> str:
    return f"<code>{escape(text).replace('|', '&#124;')}</code>"


_SECTIONS: Mapping[str, Callable[[ReportContents, Figures], list[str]]] = {
    "results": _results,
    "architecture": _architecture,
    "search": _search,
    "training": _training,
    "routing": _routing,
    "samples": _samples,
    "data": _data,
    "reproduce": _reproduce,
}
