"""`report.html`: a self-contained page for light and dark, wide and narrow screens.

Figures are inline SVG in two forms, wide and narrow, of which the style shows one. External text is
passed through `escape`.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from automoe_jax.report import drawing, numbers, tables
from automoe_jax.report.contents import ReportContents, number, quality, scored
from automoe_jax.report.cost_axis import MEASURES, cost_axis
from automoe_jax.report.figures import Figures
from automoe_jax.report.front import figure, tighter
from automoe_jax.report.headline import caveats, headline
from automoe_jax.report.rows import DENSE, RETRAINED, Row, Sample, find
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
    hypervolume_caption,
    matrix,
    removal_rows,
    routing_figures,
    scalars,
    search_caption,
)
from automoe_jax.report.style import style_sheet
from automoe_jax.report.text import escape

# longer translations are shown without marked differences from the reference
DIFFERENCE_WORDS = 300
SHOWN_FRONT = 25


def html_page(contents: ReportContents, figures: Figures) -> str:
    """The whole page."""
    sections = [
        (anchor, title, body)
        for anchor, title in SECTIONS.items()
        if (body := _SECTIONS[anchor](contents, figures))
    ]
    links = " ".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in sections)
    body = "\n".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-h">'
        f'<h2 id="{anchor}-h">{title}</h2>\n'
        f"{body}\n</section>"
        for anchor, title, body in sections
    )
    notes = " ".join(escape(note) for note in caveats(contents.results, contents.seed))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(contents.title)}</title>\n"
        f"<style>\n{style_sheet()}</style>\n</head>\n<body>\n<main>\n<header>\n"
        f'<p class="kind">{escape(contents.title)}'
        f"{' · ' if contents.date else ''}{escape(contents.date)}</p>\n"
        f"<h1>{escape(headline(contents.results))}</h1>\n"
        + (f'<p class="caveats">{notes}</p>\n' if notes else "")
        + f'<nav aria-label="Sections">{links}</nav>\n{_tiles(contents)}\n</header>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _tiles(contents: ReportContents) -> str:
    tiles = "".join(
        f'<div class="tile"><dt>{name}</dt><dd>'
        f'<span class="value">{value}</span>'
        f'<span class="unit">{unit}</span>'
        f'<span class="more">{more}</span></dd></div>'
        for name, value, unit, more in _key_figures(contents)
    )
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _key_figures(contents: ReportContents) -> Iterator[tuple[str, str, str, str]]:
    """(name, value, unit, one more fact)."""
    retrained = find(contents.results, RETRAINED)
    judged = quality(contents.results)
    if (reached := number(retrained, judged.key)) is not None:
        second = number(retrained, judged.second_key)
        yield (
            "Quality",
            numbers.score(reached),
            judged.unit,
            f"{judged.second} {numbers.score(second)}" if second is not None else "",
        )
    flops, took = number(contents.costs, "flops"), number(retrained, "deployed_ms")
    if took is not None:
        yield "Time of one sentence", numbers.significant(took), "ms", _time_limit(contents, took)
    if flops is not None:
        unit = numbers.unit_of([flops])
        low, high = number(contents.costs, "flops_min"), number(contents.costs, "flops_max")
        variation = (
            f"{unit.show(low)} to {unit.show(high)} over routings"
            if low is not None and high is not None and low < high
            else "the same for every routing"
        )
        yield "Cost of one sentence", unit.show(flops), f"{unit.prefix}FLOPs", variation
    params, active = number(contents.costs, "params"), number(contents.costs, "active_params")
    if params and active is not None:
        unit = numbers.unit_of([params])
        yield (
            "Active parameters",
            unit.show(active),
            unit.prefix,
            f"of {unit.show(params)} {unit.prefix}; sparsity {1 - active / params:.0%}",
        )
    if contents.candidates:
        evolved = sum(one.origin not in ("", "random") for one in contents.candidates)
        yield (
            "Architectures scored",
            f"{len(contents.candidates):,}",
            "",
            f"{evolved:,} by evolution" if evolved else "all drawn at random",
        )
    if seconds := sum(
        number(contents.stage_seconds, stage) or 0.0 for stage in contents.stage_seconds
    ):
        yield "Time, all stages", numbers.duration(seconds), "", escape(contents.device)


def _time_limit(contents: ReportContents, took: float) -> str:
    """As in 'limit 20 ms' or '0.76 of the largest dense one, limit 0.80'."""
    dense = number(find(contents.results, DENSE), "deployed_ms")
    most, share = (number(contents.limits, f"max_latency_{name}") for name in ("ms", "share"))
    relative = f"{took / dense:.2f} of the largest dense one" if dense else ""
    limit = f"limit {share:.2f}" if share else ""
    return ", ".join(filter(None, (f"limit {most:g} ms" if most else "", relative, limit)))


def _results(contents: ReportContents, figures: Figures) -> str:
    results = contents.results
    if not results:
        return _quiet(NOTHING["results"])
    shown = tables.columns(results)
    head = "".join(
        f'<th scope="col" role="columnheader" title="{escape(c.explanation)}">'
        f"{escape(c.title)}</th>"
        for c in shown
    )
    rows = "\n".join(_result_row(row, shown, results) for row in results)
    table = _scrolling(
        '<table class="results" role="table"><thead role="rowgroup"><tr role="row">'
        f'<th scope="col" role="columnheader">system</th>{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{rows}\n</tbody></table>'
    )
    lines = "".join(
        f"<br>{name} <code>{escape(signature)}</code>"
        for name, signature in tables.signatures(results)
    )
    best = "The best value of a column is bold with a dot."
    return f"{table}\n{_quiet(f'{best} {count_note(contents)}{lines}')}"


def _result_row(row: Row, shown: Sequence[tables.Column], results: Sequence[Row]) -> str:
    kind = ' class="found"' if row.key == RETRAINED else ""
    note = f"<small>{escape(row.note)}</small>" if row.note else ""
    cells = "".join(_result_cell(column, row, results) for column in shown)
    return (
        f'<tr{kind} role="row">'
        f'<th scope="row" role="rowheader">{escape(row.title)}{note}</th>{cells}</tr>'
    )


def _result_cell(column: tables.Column, row: Row, results: Sequence[Row]) -> str:
    value, label = column.value(row), escape(column.title)
    if value is None:
        return (
            f'<td role="cell" class="missing-cell" data-label="{label}">'
            f'<span class="missing">{numbers.MISSING}</span></td>'
        )
    text = f"<span>{column.text(row)}</span>"
    if column.is_best(row, results):
        text = f'<span class="best">{column.text(row)}<span class="hidden"> (best)</span></span>'
    return f'<td role="cell" data-label="{label}">{text}</td>'


def _figure(name: str, figures: Figures, caption: str) -> str:
    """A figure in both forms with its caption, or nothing if it was not drawn."""
    if name not in figures:
        return ""
    forms = "".join(
        f'<div class="{form}">{figures[name].inline(form == "narrow")}</div>'
        for form in ("wide", "narrow")
    )
    return (
        f'<figure id="figure-{name}"><div class="paper">{forms}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _architecture(contents: ReportContents, figures: Figures) -> str:
    figure = _figure("architecture", figures, architecture_caption(contents))
    words = f"<p>{escape(drawing.describe(contents.arch))}</p>"
    json = f"<pre>{escape(contents.arch.to_json(indent=2))}</pre>"
    return figure + _folded(IN_WORDS, words) + _folded("As JSON", json)


def _search(contents: ReportContents, figures: Figures) -> str:
    figure = _figure("search", figures, search_caption(contents))
    volume = _figure("hypervolume", figures, hypervolume_caption(contents))
    return (figure or _quiet(NOTHING["search"])) + volume + _front(contents)


def _front(contents: ReportContents) -> str:
    """The Pareto front as a figure and a folded table, and what tighter budgets cost."""
    axis = cost_axis(contents.objective, contents.pareto)
    front = sorted(scored(contents.pareto), key=axis.of)
    members = {id(one): member for member, one in enumerate(contents.pareto, 1)}
    if not front:
        return ""
    kept = (
        [front[i * (len(front) - 1) // max(SHOWN_FRONT - 1, 1)] for i in range(SHOWN_FRONT)]
        if len(front) > SHOWN_FRONT
        else front
    )
    unit, params = (
        numbers.unit_of(one.flops for one in front),
        numbers.unit_of(one.costs["params"] for one in front),
    )
    own = axis.name in MEASURES  # not one of the columns below
    rows = "".join(
        f'<tr id="front-{members[id(one)]}"><td>{numbers.significant(one.loss, 4)}</td>'
        + (f"<td>{axis.unit.show(axis.of(one))}</td>" if own else "")
        + f"<td>{unit.show(one.flops)}</td>"
        f"<td>{params.show(one.costs['params'])}</td>"
        f"<td>{params.show(one.costs['active_params'])}</td>"
        f"<td><code>{escape(drawing.shorthand(one.arch))}</code></td>"
        f"<td><code>--config.retrain.arch=front:{members[id(one)]}</code></td></tr>"
        for one in kept
    )
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            "loss",
            *([axis.words] if own else []),
            f"{unit.prefix}FLOPs",
            f"params {params.prefix}",
            f"active {params.prefix}",
            "encoder / decoder",
            "to retrain it",
        )
    )
    some = f", {len(kept)} of {len(front)} shown" if len(kept) < len(front) else ""
    table = _folded(
        f"The Pareto front as a table ({len(front)} architectures{some})", _table(head, rows)
    )
    budgets = _folded(
        "Lowest loss within shares of the found architecture's costs",
        _table(*tighter(scored(contents.candidates), _found_costs(contents))),
    )
    return figure(kept, [members[id(one)] for one in kept], axis) + table + budgets


def _found_costs(contents: ReportContents) -> Mapping[str, float]:
    """Costs of the found architecture, as the search saw them where it scored it."""
    seen = (one.costs for one in contents.candidates if one.arch == contents.arch)
    return {**contents.costs, **next(seen, {})}


def _training(contents: ReportContents, figures: Figures) -> str:
    figure = _figure("loss", figures, CAPTIONS["loss"])
    return figure or _quiet(NOTHING["training"])


def _routing(contents: ReportContents, figures: Figures) -> str:
    keys = [*(key for key, _ in routing_figures(contents)), "experts_shares"]
    shown = "".join(_figure(key, figures, CAPTIONS[key]) for key in keys)
    notes = (collapse_note(contents), dead_note(contents))
    return shown + "".join(_quiet(note) for note in notes if note)


def _samples(contents: ReportContents, figures: Figures) -> str:
    if not contents.samples:
        return _quiet(NOTHING["samples"])
    intro = _quiet("Words with a dotted line under them are not in the reference at that place.")
    samples = "\n".join(_sample(sample, contents) for sample in contents.samples)
    return f'{intro}<div class="samples">{samples}</div>'


def _sample(sample: Sample, contents: ReportContents) -> str:
    source, target = (
        _language(contents.config.get(f"data.{side}_language")) for side in ("source", "target")
    )
    parts = [f'<dt>source</dt><dd dir="auto" class="source"{source}>{escape(sample.source)}</dd>']
    parts += [
        f'<dt>reference</dt><dd dir="auto" class="reference"{target}>'
        f"{escape(sample.reference)}</dd>"
    ]
    parts += [
        f'<dt>{escape(key.title)}</dt><dd dir="auto"{target}>'
        f"{_compared(output, sample.reference)}</dd>"
        for key, output in sample.outputs.items()
    ]
    return f'<article class="sample"><dl>{"".join(parts)}</dl></article>'


def _language(code: Any) -> str:
    return (
        f' lang="{code}"'
        if isinstance(code, str) and re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*", code)
        else ""
    )


def _compared(translation: str, reference: str) -> str:
    """The escaped translation with marked differences from the reference."""
    words, wanted = translation.split(), reference.split()
    if not words:
        return '<span class="missing">(empty)</span>'
    if words == wanted:
        return f'{escape(translation)}<span class="same">= reference</span>'
    if max(len(words), len(wanted)) > DIFFERENCE_WORDS:
        return escape(translation)
    pieces = []
    for kind, start, end, _, _ in difflib.SequenceMatcher(
        None, words, wanted, autojunk=False
    ).get_opcodes():
        if text := escape(" ".join(words[start:end])):
            pieces += [text if kind == "equal" else f'<span class="off">{text}</span>']
    return " ".join(pieces)


def _data(contents: ReportContents, figures: Figures) -> str:
    statistics = _statistics(contents.data_statistics) or _quiet(NOTHING["data"])
    return statistics + _removals(contents)


def _removals(contents: ReportContents) -> str:
    """A table of what the rules of cleaning left out, with an example of each."""
    rows = removal_rows(contents.removals)
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in REMOVAL_COLUMNS)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    return f"<h3>cleaning</h3>{_table(head, body)}"


def _statistics(values: Mapping[str, Any], title: str = "") -> str:
    """Scalars as a list, groups of groups as tables; deeper groups under separate headings."""
    parts = []
    if single := scalars(values):
        parts += [_pairs(single)]
    columns, rows = matrix(values)
    if rows:
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", *columns))
        body = "".join(
            f'<tr><th scope="row">{escape(name)}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + "</tr>"
            for name, cells in rows
        )
        parts += [_table(head, body)]
    for name, value in values.items():
        if isinstance(value, Mapping) and value and not any(name == row for row, _ in rows):
            parts += [
                _statistics(value, f"{title}{name} · ").replace(
                    "<table", f'<table aria-label="{escape(title + str(name))}"', 1
                )
            ]
    heading = f"<h3>{escape(title.removesuffix(' · '))}</h3>" if title and (single or rows) else ""
    return heading + "".join(parts)


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(numbers.plain(value))}</td></tr>'
        for name, value in values.items()
    )
    return f'<div class="card plain"><table class="plain"><tbody>{rows}</tbody></table></div>'


def _reproduce(contents: ReportContents, figures: Figures) -> str:
    parts = [f"<pre>{escape(contents.command)}</pre>"] if contents.command else []
    facts = {
        "seed": str(contents.seed),
        "date": contents.date,
        "device": contents.device,
        **{str(k): str(v) for k, v in contents.versions.items()},
    }
    parts += [_stages(contents), _pairs({name: value for name, value in facts.items() if value})]
    if contents.config:
        parts += [_folded(f"All {len(contents.config)} settings", _pairs(contents.config))]
    return "".join(parts)


def _stages(contents: ReportContents) -> str:
    seconds = {
        stage: value
        for stage in contents.stage_seconds
        if (value := number(contents.stage_seconds, stage)) is not None
    }
    longest = max(seconds.values(), default=0.0)
    if longest <= 0:
        return ""
    rows = "".join(
        f"<span>{escape(stage)}</span>"
        f'<span class="bar" style="width:{max(0.0, 100 * value / longest):.1f}%"></span>'
        f'<span class="time">{numbers.duration(value)}</span>'
        for stage, value in seconds.items()
    )
    return f'<div class="stages">{rows}</div>'


def _quiet(text: str) -> str:
    """A paragraph in small grey type."""
    return f'<p class="quiet">{text}</p>'


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>{body}</details>"


def _table(head: str, rows: str) -> str:
    return _scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def _scrolling(table: str) -> str:
    """A table on a card; it scrolls where the screen is narrower."""
    return f'<div class="card"><div class="scroll">{table}</div></div>'


_SECTIONS: Mapping[str, Callable[[ReportContents, Figures], str]] = {
    "results": _results,
    "architecture": _architecture,
    "search": _search,
    "training": _training,
    "routing": _routing,
    "samples": _samples,
    "data": _data,
    "reproduce": _reproduce,
}
