"""Figures of the report, each drawn once for wide and once for narrow screens."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from automoe_jax.report import drawing, palette, plots
from automoe_jax.report.contents import ReportContents
from automoe_jax.report.sections import routing_figures

TITLES = {
    "architecture": "The found architecture, layer by layer",
    "search": "Every candidate of the search: validation loss against FLOPs",
    "hypervolume": "Hypervolume of the Pareto front after every generation of the search",
    "loss": "Training and validation loss of every run",
    "routing_entropy": "Routing entropy of every layer during training",
    "dead_experts": "Share of dead experts of every layer during training",
    "experts_per_token": "Experts per token in every layer during training",
    "dropped_choices": "Share of dropped choices of every layer during training",
    "experts_shares": "Number of experts per token of the test text in every layer",
}


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One figure as SVG documents in the light palette."""

    name: str
    wide: str
    narrow: str

    def inline(self, narrow: bool) -> str:
        """The SVG element for a page, in the page's colours."""
        form = "narrow" if narrow else "wide"
        element = plots.inline(
            self.narrow if narrow else self.wide, f"{self.name}-{form}", TITLES[self.name]
        )
        return palette.themed(element)


Figures = Mapping[str, Drawn]  # by name


def draw(contents: ReportContents) -> dict[str, Drawn]:
    """{name: figure} of all figures that have data."""
    drawn = {"architecture": _architecture(contents)}
    drawn |= _plotted("search", functools.partial(plots.search_plot, contents))
    drawn |= _plotted("hypervolume", functools.partial(plots.hypervolume_plot, contents))
    drawn |= _plotted("loss", functools.partial(plots.loss_plot, contents.curves))
    for key, title in routing_figures(contents):
        drawn |= _plotted(key, functools.partial(plots.routing_plot, contents, key, title))
    drawn |= _plotted("experts_shares", functools.partial(plots.shares_plot, contents))
    return drawn


def _architecture(contents: ReportContents) -> Drawn:
    wide, narrow = (
        drawing.architecture_svg(contents.arch, contents.space, layout)
        for layout in (drawing.WIDE, drawing.NARROW)
    )
    return Drawn("architecture", wide, narrow)


def _plotted(name: str, plot: Callable[[plots.Size], str]) -> dict[str, Drawn]:
    wide = plot(plots.WIDE)
    return {name: Drawn(name, wide, plot(plots.NARROW))} if wide else {}
