"""The cost against which the figures of the search show losses."""

import dataclasses
from collections.abc import Mapping, Sequence

from automoe_jax.report import numbers
from automoe_jax.search.candidate import Candidate

COUNTS = {"flops": "FLOPs", "params": "parameters", "active_params": "active parameters"}
MEASURES = {"latency_ms": "ms", "file_mb": "MB", "memory_mb": "MB"}
_ONE = numbers.Unit(1.0, "", "")


@dataclasses.dataclass(frozen=True)
class CostAxis:
    """A cost with its unit."""

    name: str  # as in `Candidate.costs`
    unit: numbers.Unit
    words: str  # "MFLOPs"

    def of(self, candidate: Candidate) -> float:
        """The candidate's cost, not yet in the unit."""
        return candidate.costs[self.name]

    @property
    def title(self) -> str:
        """As in "MFLOPs of one sentence", and "predicted ms" of those not measured."""
        if self.name in MEASURES:
            return f"predicted {self.words}"
        return f"{self.words} of one sentence" if self.name == "flops" else self.words

    def show(self, value: float) -> str:
        """As in "8.23 MFLOPs" and "1.30 ms"."""
        return f"{self.unit.show(value)} {self.words}"

    def short(self, value: float) -> str:
        """As in "8.23 M" and "1.30 ms"."""
        return f"{self.unit.show(value)} {self.unit.prefix or self.words}"


def cost_axis(objective: str, candidates: Sequence[Candidate]) -> CostAxis:
    """The axis of the cost that a front is of. Shares of a latency are shown as milliseconds, and
    FLOPs stand for a cost that not all candidates have.
    """
    name = "latency_ms" if objective == "latency_share" else objective
    if name not in COUNTS | MEASURES or any(name not in one.costs for one in candidates):
        name = "flops"
    if name in MEASURES:
        return CostAxis(name, _ONE, MEASURES[name])
    unit = numbers.unit_of(one.costs[name] for one in candidates)
    spaced = "" if name == "flops" else " "
    return CostAxis(name, unit, f"{unit.prefix}{spaced}{COUNTS[name]}")


def limit_on(
    axis: CostAxis, limits: Mapping[str, float], candidates: Sequence[Candidate]
) -> float | None:
    """The lowest limit on the cost of the axis, if there is one: a share of a latency in the
    milliseconds that the candidates have for theirs.
    """
    found = [limits.get(f"max_{axis.name}")]
    if axis.name == "latency_ms" and (share := limits.get("max_latency_share")):
        known = (one for one in candidates if one.costs.get("latency_share"))
        found += [share * axis.of(one) / one.costs["latency_share"] for one in known][:1]
    return min((value for value in found if value), default=None)
