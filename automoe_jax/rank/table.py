"""Ranked networks as a table, as JSON and as a figure."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from automoe_jax.arch import Arch
from automoe_jax.rank.correlation import Correlation, Interval
from automoe_jax.report import numbers
from automoe_jax.report.palette import light
from automoe_jax.report.plots import WIDE, axis_titles, svg_of

INHERITED, FLOPS, PARAMS, AGAIN = "inherited loss", "FLOPs", "parameters", "another training"


class Ranked(NamedTuple):
    """One network."""

    arch: Arch
    alike: bool  # among those of equal FLOPs
    flops: float
    params: float
    inherited: float  # validation loss with the SuperNet's weights, nats per token
    trained: tuple[float, ...]  # after training from scratch, by seed

    @property
    def loss(self) -> float:
        """After training from scratch, the mean over the seeds."""
        return statistics.fmean(self.trained)

    def to_json(self) -> dict[str, Any]:
        """For rank.json."""
        values = {"trained": list(self.trained), "equal_flops": self.alike}
        costs = {"flops": self.flops, "params": self.params}
        return values | costs | {"inherited": self.inherited, "arch": self.arch.to_dict()}


Groups = dict[str, dict[str, Interval]]  # τ by group of networks and by predictor


def correlations(networks: Sequence[Ranked]) -> Groups:
    """τ of each predictor, over all networks and over those of equal FLOPs. A larger cost predicts
    a lower loss.

    With several seeds, also τ between the first two: how far two trainings of the same networks
    agree says how much of a loss is noise, which bounds what any predictor can reach.
    """
    alike = [one for one in networks if one.alike]
    return {"all": _of(networks), "equal FLOPs": _of(alike)}


def _of(networks: Sequence[Ranked]) -> dict[str, Interval]:
    predictors = {
        INHERITED: [one.inherited for one in networks],
        FLOPS: [-one.flops for one in networks],
        PARAMS: [-one.params for one in networks],
    }
    found = Correlation(predictors, [one.loss for one in networks])
    taus = {name: found.tau(name) for name in predictors}
    taus |= {f"{INHERITED} − {name}": found.difference(INHERITED, name) for name in (FLOPS, PARAMS)}
    if len(networks[0].trained) > 1:
        first, second = ([one.trained[seed] for one in networks] for seed in range(2))
        taus[AGAIN] = Correlation({AGAIN: first}, second).tau(AGAIN)
    return taus


def markdown(networks: Sequence[Ranked], groups: Groups, conditions: str) -> str:
    """The table of τ, then one row for each network, by loss after training."""
    counts = {"all": len(networks), "equal FLOPs": sum(one.alike for one in networks)}
    heads = [f"{name} ({counts[name]} networks)" for name in groups]
    lines = [
        "Kendall's τ with the validation loss after training from scratch, and its 95 % bootstrap"
        " interval over networks.",
        "",
        f"| predictor | {' | '.join(heads)} |",
        "| --- |" + " ---: |" * len(heads),
    ]
    for name in groups["all"]:
        cells = [cell(group[name]) for group in groups.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", conditions, "", "| FLOPs | parameters | equal FLOPs | inherited | trained |"]
    lines.append("| ---: | ---: | --- | ---: | ---: |")
    flops, params = (
        numbers.unit_of(getattr(one, name) for one in networks) for name in ("flops", "params")
    )
    for one in sorted(networks, key=lambda one: one.loss):
        costs = (
            f"{flops.show(one.flops)} {flops.prefix} | {params.show(one.params)} {params.prefix}"
        )
        alike = "yes" if one.alike else ""
        lines.append(f"| {costs} | {alike} | {one.inherited:.4f} | {one.loss:.4f} |")
    return "\n".join(lines) + "\n"


def figure(networks: Sequence[Ranked], groups: Groups) -> str:
    """Loss after training against the inherited loss and against FLOPs, as an SVG document."""
    unit = numbers.unit_of(one.flops for one in networks)
    panels = (
        ("validation loss with the SuperNet's weights", INHERITED, lambda one: one.inherited),
        (f"{unit.prefix}FLOPs of one sentence", FLOPS, lambda one: one.flops / unit.size),
    )
    kinds = ((False, "muted", "o", "other networks"), (True, "found", "s", "equal FLOPs"))

    def draw(whole: Figure) -> None:
        for axes, (title, name, value) in zip(whole.subplots(1, 2), panels, strict=True):
            for alike, colour, marker, label in kinds:
                chosen = [one for one in networks if one.alike == alike]
                axes.scatter(
                    [value(one) for one in chosen],
                    [one.loss for one in chosen],
                    s=30,
                    c=light(colour),
                    marker=marker,
                    label=label,
                )
            tau = ", ".join(f"{group} {taus[name].value:.2f}" for group, taus in groups.items())
            axis_titles(axes, title, f"loss trained from scratch; τ: {tau}")
        axes.legend(loc="best")

    return svg_of(draw, WIDE, "rank")


def cell(interval: Interval) -> str:
    """A value and its interval, as in "0.61 [0.40, 0.75]"."""
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
