"""Comparison of systems: Markdown tables and plots, from plain data.

BLEU, or accuracy, against FLOPs; disagreement between two passes during training; experts
of frequent and rare pieces.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from automoe_jax.report import numbers
from automoe_jax.report.palette import light
from automoe_jax.report.plots import MARKERS, WIDE, axis_titles, end_labels, log_if_wide, svg_of
from automoe_jax.report.rows import Piece
from automoe_jax.report.tables import markdown_rows, markdown_text

Curve = tuple[Sequence[float], Sequence[float]]  # steps, values


@dataclasses.dataclass(frozen=True)
class System:
    """One system's runs, a number for each seed where the field is a tuple; unknown values are
    None.
    """

    name: str
    quality: tuple[float, ...]
    second: tuple[float, ...]
    flops: tuple[float, ...]  # of one sentence, as measured if it depends on the text
    params: tuple[float, ...]
    active_params: tuple[float, ...]
    sparsity: tuple[float, ...]  # of its own experts
    # as if every layer had as many experts as the one with the most
    sparsity_published: tuple[float, ...]
    train_tokens: tuple[float, ...]
    train_seconds: tuple[float, ...]
    search_seconds: tuple[float, ...]  # of the SuperNet and the search
    latency_ms: tuple[float, ...] = ()
    experts: tuple[float, ...] = ()  # per token, the mean over the layers that have several
    # of each seed, while training, between two passes, nats per token
    disagreement: tuple[Curve, ...] = ()
    # of each seed, while training: validation loss in nats per token by target tokens seen
    learning: tuple[Curve, ...] = ()
    pieces: tuple[Piece, ...] = ()  # of the source, from the first seed
    # quality minus the baseline's: mean, 95 % interval, p
    difference: tuple[float, float, float, float] | None = None
    measures: tuple[str, str] = ("BLEU", "chrF")  # names of quality and second


def table(systems: Sequence[System], baseline: str) -> str:
    """The systems as Markdown, in the order given; ratios are to the baseline."""
    base = next((system for system in systems if system.name == baseline), None)
    quality, second = systems[0].measures
    columns: list[tuple[str, Callable[[System], str]]] = [
        ("system", lambda s: f"**{s.name}**" if s is base else s.name),
        (quality, lambda s: _mean_and_range(s.quality)),
        (f"− {baseline} [95 %], p", _difference),
        (second, lambda s: _mean_and_range(s.second)),
        ("MFLOPs", lambda s: _scaled(s.flops, 1e6)),
        (f"{baseline} / it", lambda s: _factor(base, s, "flops")),
        ("latency ms", lambda s: _scaled(s.latency_ms, 1)),
        (f"{baseline} / it", lambda s: _factor(base, s, "latency_ms")),
        ("params M", lambda s: _scaled(s.params, 1e6)),
        ("active M", lambda s: _scaled(s.active_params, 1e6)),
        (
            "experts per token",
            lambda s: f"{_mean(s.experts):.2f}" if s.experts else numbers.MISSING,
        ),
        (
            "sparsity % own / as published",
            lambda s: f"{100 * _mean(s.sparsity):.0f} / {100 * _mean(s.sparsity_published):.0f}",
        ),
        ("trained on", lambda s: numbers.count(_mean(s.train_tokens))),
        ("training", lambda s: numbers.duration(_mean(s.train_seconds))),
        (
            "SuperNet, search",
            lambda s: (
                numbers.duration(_mean(s.search_seconds))
                if any(s.search_seconds)
                else numbers.MISSING
            ),
        ),
    ]
    return markdown_rows(
        [title for title, _ in columns],
        [[show(system) for _, show in columns] for system in systems],
    )


def plot(systems: Sequence[System]) -> str:
    """Quality against FLOPs as an SVG document: a point for each seed, a line through those of a
    system; named in the order given.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, system in enumerate(systems):
            x = [flops / 1e6 for flops in system.flops]
            axes.plot(
                x,
                system.quality,
                color=_colour(i),
                marker=MARKERS[i % len(MARKERS)],
                linewidth=1,
                label=system.name,
            )
        axes.set_xlim(left=0)
        axis_titles(axes, "MFLOPs of one sentence", systems[0].measures[0])
        figure.legend(loc="outside right upper", frameon=False, fontsize=WIDE.font - 2)

    return svg_of(draw, WIDE, "comparison")


def pieces_table(system: System) -> str:
    """Mean number of experts of frequent and of rare pieces, as Markdown."""
    frequent, rare = (
        [
            [markdown_text(piece.piece), str(piece.count), f"{piece.experts:.2f}"]
            for piece in system.pieces
            if piece.group == group
        ]
        for group in ("frequent", "rare")
    )
    pairs = itertools.zip_longest(frequent, rare, fillvalue=[""] * 3)
    head = ["frequent piece", "times", "experts", "rare piece", "times", "experts"]
    return markdown_rows(head, [left + right for left, right in pairs])


def learning_plot(systems: Sequence[System]) -> str:
    """Validation loss against target tokens seen in training, as an SVG document: one line for each
    seed of each system.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, system in enumerate(systems):
            for number, (tokens, values) in enumerate(system.learning):
                axes.plot(
                    np.asarray(tokens) / 1e6,
                    values,
                    color=_colour(i),
                    marker=MARKERS[i % len(MARKERS)],
                    markevery=0.2,
                    markersize=3,
                    linewidth=1,
                    linestyle=("-", "--", ":", "-.")[number % 4],
                    label=system.name if number == 0 else None,
                )
        axis_titles(axes, "million target tokens", "validation loss, nats per token")
        log_if_wide(axes, [np.asarray(values) for s in systems for _, values in s.learning])
        figure.legend(loc="outside right upper", frameon=False, fontsize=WIDE.font - 2)

    return svg_of(draw, WIDE, "learning")


def disagreement_plot(systems: Sequence[System]) -> str:
    """Disagreement between two passes during training, as an SVG document: one line for
    each seed of each system that has it.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        ends = []
        shown = [system for system in systems if system.disagreement]
        for i, system in enumerate(shown):
            for number, (steps, values) in enumerate(system.disagreement):
                axes.plot(
                    steps, values, color=_colour(i), linestyle=("-", "--", ":", "-.")[number % 4]
                )
            steps, values = system.disagreement[0]
            ends.append(
                (
                    f"{system.name}  {numbers.significant(values[-1])}",
                    _colour(i),
                    MARKERS[0],
                    (steps[-1], values[-1]),
                )
            )
        log_if_wide(
            axes, [np.asarray(values) for system in shown for _, values in system.disagreement]
        )
        axis_titles(axes, "update", "nats per token")
        end_labels(axes, ends, WIDE)

    return svg_of(draw, WIDE, "disagreement")


def _colour(number: int) -> str:
    names = ("dense", "found", "supernet", "gold", "purple", "teal", "muted")
    return light(names[number % len(names)])


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _mean_and_range(values: Sequence[float]) -> str:
    """The mean, and every seed's value if there are several."""
    each = f" ({', '.join(f'{value:.1f}' for value in values)})" if len(values) > 1 else ""
    return f"{_mean(values):.1f}{each}"


def _scaled(values: Sequence[float], unit: float) -> str:
    return numbers.significant(_mean(values) / unit) if values else numbers.MISSING


def _factor(base: System | None, system: System, field: str) -> str:
    if base is None or base is system or not getattr(base, field) or not getattr(system, field):
        return numbers.MISSING
    return f"{_mean(getattr(base, field)) / _mean(getattr(system, field)):.2f}×"


def _difference(system: System) -> str:
    if system.difference is None:
        return numbers.MISSING
    mean, low, high, p = system.difference
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}], {p:.3f}"
