"""Systems side by side: a Markdown table and a plot of BLEU, or accuracy, against FLOPs, from plain data."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from automoe_jax.report import numbers
from automoe_jax.report.palette import light
from automoe_jax.report.plots import WIDE, axis_titles, svg_of


@dataclasses.dataclass(frozen=True)
class System:
    """One system's runs, a number for each seed where the field is a tuple; what is not known is None."""

    name: str
    quality: tuple[float, ...]
    second: tuple[float, ...]
    flops: tuple[float, ...]  # of one sentence, as measured where it depends on the text
    params: tuple[float, ...]
    active_params: tuple[float, ...]
    sparsity: tuple[float, ...]  # of its own experts
    sparsity_published: tuple[float, ...]  # as if every layer had as many experts as the one with the most
    train_tokens: tuple[float, ...]
    train_seconds: tuple[float, ...]
    search_seconds: tuple[float, ...]  # of the SuperNet and the search
    latency_ms: tuple[float, ...] = ()
    experts: tuple[float, ...] = ()  # per token, the mean over the layers that have several
    difference: tuple[float, float, float, float] | None = None  # quality minus the baseline's: mean, 95 % interval, p
    measures: tuple[str, str] = ("BLEU", "chrF")  # what quality and second are


def table(systems: Sequence[System], baseline: str) -> str:
    """The systems as Markdown, in the order given; ratios are to the baseline."""
    base = next((system for system in systems if system.name == baseline), None)
    quality, second = systems[0].measures
    columns: list[tuple[str, Callable[[System], str]]] = [
        ("system", lambda s: f"**{s.name}**" if s is base else s.name),
        (quality, lambda s: _spread(s.quality)),
        (f"− {baseline} [95 %], p", _difference),
        (second, lambda s: _spread(s.second)),
        ("MFLOPs", lambda s: _scaled(s.flops, 1e6)),
        (f"{baseline} / it", lambda s: _factor(base, s, "flops")),
        ("latency ms", lambda s: _scaled(s.latency_ms, 1)),
        (f"{baseline} / it", lambda s: _factor(base, s, "latency_ms")),
        ("params M", lambda s: _scaled(s.params, 1e6)),
        ("active M", lambda s: _scaled(s.active_params, 1e6)),
        ("experts per token", lambda s: f"{_mean(s.experts):.2f}" if s.experts else numbers.MISSING),
        ("sparsity % own / as published", lambda s: f"{100 * _mean(s.sparsity):.0f} / {100 * _mean(s.sparsity_published):.0f}"),
        ("train tokens", lambda s: numbers.count(_mean(s.train_tokens))),
        ("training", lambda s: numbers.duration(_mean(s.train_seconds))),
        ("SuperNet, search", lambda s: numbers.duration(_mean(s.search_seconds)) if any(s.search_seconds) else numbers.MISSING),
    ]
    rows = [[title for title, _ in columns], ["---"] + ["---:"] * (len(columns) - 1)]
    rows += [[show(system) for _, show in columns] for system in systems]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def plot(systems: Sequence[System], baseline: str) -> str:
    """Quality against FLOPs as an SVG document: a point for each seed, a name for each system."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, system in enumerate(systems):
            colour = light(("dense", "found", "supernet", "gold", "purple", "teal", "muted")[0 if system.name == baseline else 1 + i % 6])
            x = [flops / 1e6 for flops in system.flops]
            axes.scatter(x, system.quality, color=colour, marker=("o", "s", "^", "D", "v", "P")[i % 6], s=36, zorder=3)
            axes.annotate(
                system.name,
                (_mean(tuple(x)), max(system.quality)),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                color=light("ink"),
                fontsize=WIDE.font - 2,
            )
        axes.margins(x=0.12, y=0.18)
        axis_titles(axes, "MFLOPs of one sentence", systems[0].measures[0])

    return svg_of(draw, WIDE, "comparison")


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _spread(values: Sequence[float]) -> str:
    """The mean, and every seed's value where there are several."""
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
