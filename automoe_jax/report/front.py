"""The Pareto front as a figure to point at, and what tighter budgets cost, as HTML.

The figure is plain SVG. A point shows its architecture and costs under the pointer, and links to
the row of the table that holds the setting which retrains it.
"""

from collections.abc import Mapping, Sequence

from automoe_jax.report import drawing, numbers
from automoe_jax.report.cost_axis import COUNTS, CostAxis
from automoe_jax.report.text import escape
from automoe_jax.search.candidate import Candidate

WIDTH, HEIGHT, MARGIN = 640.0, 220.0, 44.0
SHARES = (1.0, 0.9, 0.8, 0.7, 0.5)  # of the found architecture's cost
UNITS = {"latency_ms": "ms"} | COUNTS


def figure(front: Sequence[Candidate], members: Sequence[int], axis: CostAxis) -> str:
    """Loss against the cost; `members`: the number of each on the front of the search."""
    xs = _placed([axis.of(one) for one in front], MARGIN, WIDTH - MARGIN)
    ys = _placed([-one.loss for one in front], HEIGHT - MARGIN, MARGIN / 2)
    points = "".join(
        f'<a href="#front-{member}"><circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="var(--found)">'
        f"<title>{escape(_words(one, member))}</title></circle></a>"
        for one, member, x, y in zip(front, members, xs, ys, strict=True)
    )
    losses = [numbers.significant(one.loss) for one in (front[0], front[-1])]
    ends = [axis.show(axis.of(one)) for one in (front[0], front[-1])]
    text = 'fill="var(--muted)" font-size="12"'
    labels = (
        f'<text x="{MARGIN}" y="{HEIGHT - 8}" {text}>{ends[0]}, loss {losses[0]}</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}" text-anchor="end" {text}>{ends[1]},'
        f" loss {losses[1]}</text>"
    )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img"'
        f' aria-label="Pareto front of loss and {axis.words}" width="100%">{points}{labels}</svg>'
        "<figcaption>The Pareto front: loss (upwards is better) against"
        f" {axis.words}. Point at an architecture for its costs; select it for the setting that"
        " retrains it.</figcaption>"
        "</figure>"
    )


def tighter(candidates: Sequence[Candidate], costs: Mapping[str, float]) -> tuple[str, str]:
    """Head and rows of a table: the lowest loss of the candidates within shares of each cost of the
    found architecture.
    """
    heads = ("budget", *(f"{share:.0%}" for share in SHARES))
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    rows = "".join(
        f"<tr><td>{words}</td>"
        + "".join(f"<td>{_lowest(candidates, name, share * costs[name])}</td>" for share in SHARES)
        + "</tr>"
        for name, words in UNITS.items()
        if name in costs
    )
    return head, rows


def _lowest(candidates: Sequence[Candidate], name: str, most: float) -> str:
    losses = [one.loss for one in candidates if one.complete and one.costs[name] <= most]
    return numbers.significant(min(losses), 4) if losses else numbers.MISSING


def _words(one: Candidate, member: int) -> str:
    costs = ", ".join(f"{one.costs[name]:,.4g} {words}" for name, words in _units(one))
    return f"front:{member}: loss {one.loss:.4g}, {costs}; {drawing.shorthand(one.arch)}"


def _units(one: Candidate) -> list[tuple[str, str]]:
    """The names and units of the costs that the candidate has."""
    return [(name, words) for name, words in UNITS.items() if name in one.costs]


def _placed(values: Sequence[float], low: float, high: float) -> list[float]:
    """Positions between `low` and `high`, of the smallest and the largest value."""
    least, most = min(values), max(values)
    return [low + (high - low) * (value - least) / ((most - least) or 1.0) for value in values]
