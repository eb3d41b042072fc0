"""Figures with axes: search, loss curves, routing; drawn by Matplotlib as SVG in the light palette.

Every function returns the text of an SVG document, or an empty string without data. Equal contents
give equal bytes. `palette.themed` and `inline` embed a document in a page.
"""

import dataclasses
import functools
import io
import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from automoe_jax.arch import MAX_LAYERS, Arch
from automoe_jax.names import VALIDATION
from automoe_jax.report import numbers
from automoe_jax.report.contents import ReportContents, finite, number, scored
from automoe_jax.report.cost_axis import CostAxis, cost_axis, limit_on
from automoe_jax.report.drawing import FONT
from automoe_jax.report.palette import RUN_COLOURS, light
from automoe_jax.report.rows import RETRAINED, Role, RowKey, find
from automoe_jax.report.text import clean
from automoe_jax.search.candidate import Candidate

# more candidates than this are drawn as one raster image, for a small page
RASTER_POINTS = 2000
CURVE_POINTS = 400  # a longer curve is averaged in bins
ROUTING_POINTS = 60
MARKERS = ("o", "s", "^", "D", "v", "P")
STOPPED = "stopped early"  # instead of the origin of candidates whose loss is an estimate
FAINT = 0.4  # opacity
ORIGINS = {
    STOPPED: ("muted", "x"),
    "random": ("muted", "o"),
    "mutation": ("supernet", "s"),
    "crossover": ("gold", "^"),
}
PIXELS = 1 / 72  # inches of one SVG unit

Points = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Size:
    """One of the two forms of a figure: for wide and for narrow screens."""

    width: int
    height: int
    columns: int  # of small multiples
    font: float

    @property
    def narrow(self) -> bool:
        return self.width < 500


WIDE = Size(width=980, height=420, columns=6, font=12)
NARROW = Size(width=352, height=330, columns=3, font=10)


def inline(document: str, name: str, label: str) -> str:
    """The SVG element of a document for a page: ids made unique by `name`, without prolog and
    style.
    """
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"#]*">', "<g>", svg)
    svg = (
        re.sub(r'\bid="', f'id="{name}-', svg)
        .replace("url(#", f"url(#{name}-")
        .replace('href="#', f'href="#{name}-')
    )
    for attribute in ("width", "height", "role"):
        svg = re.sub(rf'(<svg[^>]*?)\s{attribute}="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_attribute(label)}"', 1).strip()


def search_plot(contents: ReportContents, size: Size) -> str:
    """Every candidate as loss against the cost that the front is of, by origin, with the front, the
    limit and the chosen one; stopped ones faint.
    """
    candidates = scored(contents.candidates)
    if not candidates:
        return ""
    axis = cost_axis(contents.objective, candidates)
    points = [
        (axis.of(one), one.loss, clean(one.origin) if one.complete else STOPPED)
        for one in candidates
    ]
    bottom, top = _loss_range([y for _, y, _ in points])

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _candidates(axes, points, axis.unit.size, top)
        _front(axes, contents.pareto, axis)
        _limit(axes, contents, axis, max(x for x, _, _ in points))
        _chosen(axes, contents, axis, size)
        axes.set_ylim(bottom, top)
        axes.margins(x=0.04)
        axis_titles(
            axes,
            axis.title,
            "validation loss with the SuperNet's weights",
        )
        _legend(axes, size)

    return svg_of(draw, size, "search")


def hypervolume_plot(contents: ReportContents, size: Size) -> str:
    """The share of the plane that the front dominates, after each generation of the search."""
    shares = contents.hypervolume.get("by_generation", ())
    if len(shares) < 2:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        colour, values = light("supernet"), [100 * share for share in shares]
        axes.plot(range(len(values)), values, color=colour, linewidth=2, marker="o", markersize=5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.04, y=0.12)
        axis_titles(axes, "generation", "hypervolume, %")

    return svg_of(draw, dataclasses.replace(size, height=size.height // 2), "hypervolume")


def outliers(candidates: Iterable[Candidate]) -> int:
    """Number of candidates above the upper edge of the search plot."""
    losses = [one.loss for one in scored(candidates)]
    top = _loss_range(losses)[1] if losses else 0.0
    return sum(loss > top for loss in losses)


def loss_plot(curves: Mapping[Role, list[dict[str, Any]]], size: Size) -> str:
    """Negative log likelihood per token of every run: training thin, validation thick with
    markers.
    """
    runs = {
        role: (training, validation)
        for role, records in curves.items()
        if len((training := training_curve(records))[0])
        + len((validation := series(records, VALIDATION))[0])
    }
    if not runs:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        ends = []
        for (role, (training, validation)), marker in zip(
            runs.items(), _cycled(MARKERS, len(runs)), strict=True
        ):
            colour = light(RUN_COLOURS[role])
            _line(axes, binned(training, CURVE_POINTS), color=colour, linewidth=1.1, alpha=0.55)
            if len(validation[0]):
                few = max(1, len(validation[0]) // 12)
                axes.plot(
                    *validation,
                    color=colour,
                    linewidth=2,
                    marker=marker,
                    markersize=5,
                    markevery=few,
                )
            best = validation if len(validation[0]) else training
            ends.append(
                (
                    f"{RowKey(role).title}  {numbers.significant(best[1][-1])}",
                    colour,
                    marker,
                    (best[0][-1], best[1][-1]),
                )
            )
        log_if_wide(axes, [y for pair in runs.values() for _, y in pair])
        axis_titles(axes, "update", "negative log likelihood, nats per token")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        end_labels(axes, ends, size)

    return svg_of(draw, size, "loss")


def routing_plot(contents: ReportContents, key: str, title: str, size: Size) -> str:
    """One small panel per layer with `key` ("routing_entropy" or "dead_experts") of every run over
    its updates.
    """
    runs = {run: layered(records, key, contents) for run, records in contents.curves.items()}
    names = sorted({name for layers in runs.values() for name in layers}, key=_layer_order)
    if not names:
        return ""
    columns = min(
        size.columns,
        max(
            sum(name.split()[0] == side for name in names)
            for side in {name.split()[0] for name in names}
        ),
    )
    places = _places(names, columns)
    rows = 1 + max(row for row, _ in places.values())
    panel = 92 if size.narrow else 108
    grown = dataclasses.replace(
        size, height=rows * panel + 48 + (16 * len(runs) if size.narrow else 26)
    )

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(rows, columns)
        shared: Axes | None = None
        for name, (row, column) in places.items():
            axes = figure.add_subplot(grid[row, column], sharex=shared, sharey=shared)
            shared = shared or axes
            for run, layers in runs.items():
                if name in layers:
                    _line(
                        axes,
                        binned(layers[name], ROUTING_POINTS),
                        color=light(RUN_COLOURS[run]),
                        linewidth=1.4,
                    )
            _small_panel(axes, name, column == 0, places, row, column)
        values = np.concatenate([layers[name][1] for layers in runs.values() for name in layers])
        assert shared is not None
        top = max(float(values.max()), 0.05)
        shared.set_ylim(-0.05 * top, 1.1 * top)
        _run_legend(figure, [run for run, layers in runs.items() if layers], size)
        figure.supxlabel("update", fontsize=size.font - 1, color=light("muted"))
        figure.supylabel(title, fontsize=size.font - 1, color=light("muted"))

    return svg_of(draw, grown, key)


def shares_plot(contents: ReportContents, size: Size) -> str:
    """For each layer of the retrained sub-Transformer a bar of the shares of tokens with 1, 2, …
    experts (DA-MoE).
    """
    retrained = find(contents.results, RETRAINED)
    shares = [
        [finite(share) or 0.0 for share in layer]
        for layer in (retrained.experts_shares if retrained else ())
    ]
    names = layer_names(len(shares), contents.arch, contents.space)
    bars = [(name, layer) for name, layer in zip(names, shares, strict=True) if len(layer) > 1]
    if not bars:
        return ""
    most = max(len(layer) for _, layer in bars)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, (_, layer) in enumerate(bars):
            left = 0.0
            for number_of, share in enumerate(layer, start=1):
                shade = 0.15 + 0.85 * number_of / most
                axes.barh(
                    row,
                    share,
                    left=left,
                    height=0.62,
                    color=light("found"),
                    alpha=shade,
                    edgecolor=light("paper"),
                )
                if share > 0.06:
                    ink = light("paper") if shade > 0.6 else light("ink")
                    axes.text(
                        left + share / 2,
                        row,
                        str(number_of),
                        ha="center",
                        va="center",
                        color=ink,
                        fontsize=size.font - 1,
                    )
                left += share
            mean = sum(number_of * share for number_of, share in enumerate(layer, start=1))
            axes.text(
                1.01, row, f"{mean:.2f}", va="center", color=light("ink"), fontsize=size.font - 1
            )
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.set_xlim(0, 1.08)
        axes.set_xticks([0, 0.5, 1], ["0", "half", "all"])
        axes.invert_yaxis()
        axes.set_xlabel("share of the tokens")

    grown = dataclasses.replace(size, height=30 * len(bars) + 70)
    return svg_of(draw, grown, "shares")


def series(records: Iterable[Mapping[str, Any]], key: str) -> Points:
    """(steps, values) of the records in which `key` is a finite number."""
    pairs = [
        (step, value)
        for record in records
        if (step := number(record, "step")) is not None
        and (value := number(record, key)) is not None
    ]
    pairs.sort()
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs])


def training_curve(records: Sequence[Mapping[str, Any]]) -> Points:
    """The training nll, comparable with validation; the loss if no nll was logged."""
    logged = series(records, "nll")
    return logged if len(logged[0]) else series(records, "loss")


def binned(points: Points, most: int) -> Points:
    """At most `most` points: means of equally long runs of neighbours."""
    steps, values = points
    if len(steps) <= most:
        return points
    parts = np.array_split(np.arange(len(steps)), most)
    return np.array([steps[part].mean() for part in parts]), np.array(
        [values[part].mean() for part in parts]
    )


def layered(
    records: Iterable[Mapping[str, Any]], key: str, contents: ReportContents
) -> dict[str, Points]:
    """{"encoder 1": (steps, values)} of the lists over layers in `key`, layers without any value
    left out.
    """
    collected: dict[str, list[tuple[float, float]]] = {}
    names = functools.cache(lambda length: layer_names(length, contents.arch, contents.space))
    for record in records:
        values, step = record.get(key), number(record, "step")
        if not isinstance(values, list | tuple) or step is None:
            continue
        for name, value in zip(names(len(values)), values, strict=True):
            if (checked := finite(value)) is not None:
                collected.setdefault(name, []).append((step, checked))
    return {
        name: (np.array([s for s, _ in pairs]), np.array([v for _, v in pairs]))
        for name, pairs in collected.items()
    }


def layer_names(length: int, arch: Arch, space: Any) -> list[str]:
    """Names for a list over layers, the encoder's first: of the space, the found architecture or
    padded to the package's maxima.
    """
    depths = (
        (max(space.encoder_layers), max(space.decoder_layers)),
        (arch.encoder_layers, arch.decoder_layers),
        (MAX_LAYERS, MAX_LAYERS),
    )
    for encoder, decoder in depths:
        if encoder + decoder == length:
            return [f"encoder {i + 1}" for i in range(encoder)] + [
                f"decoder {i + 1}" for i in range(decoder)
            ]
    return [f"layer {i + 1}" for i in range(length)]


def svg_of(draw: Callable[[Figure], None], size: Size, salt: str) -> str:
    """SVG document of a figure of this size, drawn by `draw`; `salt` makes its ids unique."""
    style: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,
        "font.size": size.font,
        "font.family": "DejaVu Sans",
        "axes.edgecolor": light("line"),
        "axes.labelcolor": light("muted"),
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": False,
        "text.color": light("ink"),
        "xtick.color": light("line"),
        "ytick.color": light("line"),
        "xtick.labelcolor": light("muted"),
        "ytick.labelcolor": light("muted"),
        "ytick.major.size": 0,
        "grid.color": light("grid"),
        "grid.linewidth": 1,
        "lines.solid_capstyle": "round",
        "figure.facecolor": light("paper"),
    }
    # Only letters of a run's title can be missing in matplotlib's font; the browser draws them with
    # its own.
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(
            figsize=(size.width * PIXELS, size.height * PIXELS), dpi=72, layout="constrained"
        )
        FigureCanvasSVG(figure)
        draw(figure)
        out = io.StringIO()
        figure.savefig(
            out,
            format="svg",
            dpi=216,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return (
        out.getvalue()
        .replace("font-family: 'DejaVu Sans'", f"font-family: {FONT}")
        .replace("px 'DejaVu Sans'", f"px {FONT}")
    )


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _cycled(items: Sequence[str], length: int) -> list[str]:
    return [items[i % len(items)] for i in range(length)]


def axis_titles(axes: Axes, x: str, y: str) -> None:
    """Axis titles; the y title is horizontal, above the axis."""
    axes.set_xlabel(x)
    axes.set_title(
        y, loc="left", fontsize=matplotlib.rcParams["font.size"], color=light("muted"), pad=10
    )
    axes.grid(True, axis="y")


def _line(axes: Axes, points: Points, **style: Any) -> None:
    """A curve; a single point is drawn as a dot, since a line through it would be invisible."""
    if len(points[0]):
        axes.plot(*points, marker="o" if len(points[0]) == 1 else None, markersize=4, **style)


def _loss_range(losses: Sequence[float]) -> tuple[float, float]:
    """Limits of the y axis: far outliers do not compress the rest."""
    low, bulk, high = (
        float(value) for value in (min(losses), np.quantile(losses, 0.97), max(losses))
    )
    top = high if high - low <= 2.5 * (bulk - low) else bulk + 0.25 * (bulk - low)
    room = 0.06 * (top - low) or 0.05 * abs(low) or 1.0
    return low - room, top + room


def _candidates(
    axes: Axes, points: Sequence[tuple[float, float, str]], unit: float, top: float
) -> None:
    origins = sorted(
        {origin for _, _, origin in points},
        key=lambda origin: ([*ORIGINS, origin].index(origin), origin),
    )
    for origin in origins:
        xs = [x / unit for x, _, own in points if own == origin]
        ys = [y for _, y, own in points if own == origin]
        colour, marker = ORIGINS.get(origin, ("purple", "D"))
        area, alpha = (26, 0.75) if len(points) < 400 else (14, 0.55)
        alpha *= FAINT if origin == STOPPED else 1.0
        label = f"{origin} ({len(xs):,})"
        thick = 1.0 if marker == "x" else 0.0
        axes.scatter(
            xs,
            ys,
            s=area,
            c=light(colour),
            marker=marker,
            alpha=alpha,
            linewidths=thick,
            rasterized=len(points) > RASTER_POINTS,
            label=label,
        )
    above = [(x / unit, top) for x, y, _ in points if y > top]
    if above:
        xs, ys = zip(*above, strict=True)
        axes.scatter(xs, ys, s=30, c=light("muted"), marker=6, clip_on=False, linewidths=0)


def _front(axes: Axes, pareto: Sequence[Candidate], axis: CostAxis) -> None:
    front = sorted((axis.of(one) / axis.unit.size, one.loss) for one in scored(pareto))
    if front:
        xs, ys = zip(*front, strict=True)
        style: dict[str, Any] = {
            "color": light("ink"),
            "linewidth": 1.4,
            "drawstyle": "steps-post",
            "zorder": 4,
        }
        axes.plot(
            xs,
            ys,
            marker="o",
            markersize=4.5,
            markerfacecolor=light("paper"),
            label=f"Pareto front ({len(xs)})",
            **style,
        )


def _limit(axes: Axes, contents: ReportContents, axis: CostAxis, furthest: float) -> None:
    """The limit on the cost, if it is near enough to be on the plot."""
    limit = limit_on(axis, contents.limits, contents.candidates)
    if not limit or limit > 1.5 * furthest:
        return
    x = limit / axis.unit.size
    axes.axvline(x, color=light("purple"), linewidth=1.4, linestyle=(0, (5, 4)), zorder=1)
    where: dict[str, Any] = {
        "xy": (x, 0.98),
        "xycoords": axes.get_xaxis_transform(),
        "textcoords": "offset points",
    }
    axes.annotate(
        f"limit {axis.short(limit)}",
        xytext=(-5, 0),
        ha="right",
        va="top",
        color=light("purple"),
        **where,
    )


def _chosen(axes: Axes, contents: ReportContents, axis: CostAxis, size: Size) -> None:
    candidates = scored([*contents.pareto, *contents.candidates])
    chosen = next((one for one in candidates if one.arch == contents.arch), None)
    if chosen is None:
        return
    x, y = axis.of(chosen) / axis.unit.size, chosen.loss
    style: dict[str, Any] = {
        "color": light("found"),
        "markeredgecolor": light("paper"),
        "markersize": 17,
        "linestyle": "none",
        "zorder": 6,
    }
    axes.plot([x], [y], marker="*", label="chosen", **style)
    words = f"chosen: {numbers.significant(y)} at {axis.short(axis.of(chosen))}"
    left, right = axes.get_xlim()
    side = -1 if x > (left + right) / 2 else 1
    place: dict[str, Any] = {
        "xytext": (10 * side, -13),
        "textcoords": "offset points",
        "ha": "left" if side > 0 else "right",
    }
    axes.annotate(
        words,
        (x, y),
        color=light("found"),
        weight="bold",
        zorder=7,
        fontsize=size.font,
        **place,
    )


def _legend(axes: Axes, size: Size) -> None:
    handles, labels = axes.get_legend_handles_labels()
    kept = [
        (handle, label) for handle, label in zip(handles, labels, strict=True) if label != "chosen"
    ]
    place: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (-0.02, 1.08 if not size.narrow else 1.1),
        "ncols": 2 if size.narrow else len(kept),
    }
    axes.legend(
        *zip(*kept, strict=True),
        frameon=False,
        markerscale=1.8 if size.narrow else 2,
        handletextpad=0.3,
        columnspacing=1.4,
        borderpad=0.2,
        **place,
    )


def log_if_wide(axes: Axes, values: Sequence[np.ndarray]) -> None:
    """A logarithmic axis with plain numbers where the values span more than a factor of four."""
    every = np.concatenate(values)
    low, high = float(every.min()), float(every.max())
    if low > 0 and high > 4 * low:
        axes.set_yscale("log")
        ticks = [m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5)]
        axes.set_ylim(low / 1.15, high * 1.1)
        axes.yaxis.set_major_locator(
            FixedLocator([tick for tick in ticks if low / 1.15 <= tick <= high * 1.1])
        )
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def end_labels(
    axes: Axes, ends: Sequence[tuple[str, str, str, tuple[float, float]]], size: Size
) -> None:
    """Names where the curves end; on a phone, in a legend above."""
    if size.narrow:
        handles = [
            axes.plot([], [], color=colour, marker=marker, markersize=5, linewidth=2)[0]
            for _, colour, marker, _ in ends
        ]
        labels = [label for label, *_ in ends]
        axes.legend(
            handles,
            labels,
            frameon=False,
            borderpad=0.2,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.1),
        )
        return
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform(point)[1]) for *_, point in ends]
    for (label, colour, _, point), y in zip(ends, kept_apart(heights, 0.065), strict=True):
        place: dict[str, Any] = {
            "xytext": (right + 0.01 * (right - left), y),
            "textcoords": ("data", "axes fraction"),
            "annotation_clip": False,
        }
        axes.annotate(label, point, color=colour, weight="bold", va="center", **place)
        far = point[0] < right - 0.06 * (right - left)
        leader: dict[str, Any] = {
            "xytext": (right, y),
            "textcoords": ("data", "axes fraction"),
            "annotation_clip": False,
        }
        arrow: dict[str, Any] = {
            "arrowstyle": "-",
            "color": colour,
            "linewidth": 0.9,
            "linestyle": (0, (1, 3)),
            "shrinkB": 8 if far else 0,
        }
        axes.annotate("", point, arrowprops=arrow, **leader)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def kept_apart(heights: Sequence[float], apart: float) -> list[float]:
    """The heights, moved up where needed so that any two have this distance."""
    out = list(heights)
    order = np.argsort(heights, kind="stable")
    for below, above in itertools.pairwise(order):
        out[above] = max(out[above], out[below] + apart)
    return out


def _layer_order(name: str) -> tuple[int, int]:
    side, index = name.split()
    return ("encoder", "decoder", "layer").index(side), int(index)


def _places(names: Sequence[str], columns: int) -> dict[str, tuple[int, int]]:
    """(row, column) of each panel; every side begins a new row."""
    places, row, column, side = {}, -1, columns, ""
    for name in names:
        if column == columns or name.split()[0] != side:
            row, column, side = row + 1, 0, name.split()[0]
        places[name] = (row, column)
        column += 1
    return places


def _small_panel(
    axes: Axes, name: str, first: bool, places: Mapping[str, tuple[int, int]], row: int, column: int
) -> None:
    axes.set_title(
        name, loc="left", fontsize=matplotlib.rcParams["font.size"] - 1, color=light("ink"), pad=4
    )
    axes.grid(True, axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x >= 10_000 else f"{x:,.0f}")
    )
    below = (row + 1, column) in places.values()
    axes.tick_params(
        labelsize=matplotlib.rcParams["font.size"] - 2, labelleft=first, labelbottom=not below
    )


def _run_legend(figure: Figure, runs: Sequence[Role], size: Size) -> None:
    handles = [
        matplotlib.lines.Line2D([], [], color=light(RUN_COLOURS[run]), linewidth=2) for run in runs
    ]
    ncols = 1 if size.narrow else len(handles)
    figure.legend(
        handles,
        [RowKey(run).title for run in runs],
        loc="outside upper left",
        frameon=False,
        ncols=ncols,
        borderpad=0.2,
        borderaxespad=0.2,
    )
