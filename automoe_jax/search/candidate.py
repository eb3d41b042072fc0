"""One scored architecture of a search."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from automoe_jax.arch import Arch
from automoe_jax.search.limits import COSTS


class Score(NamedTuple):
    """The result of a score function for an architecture."""

    loss: float  # lower is better
    # share of the validation text that was scored; below 1, the candidate was stopped and the loss
    # is an estimate
    share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An architecture with its loss (lower is better; infinite where the score was not finite) and
    its costs.
    """

    arch: Arch
    loss: float
    costs: Mapping[str, float]  # by the names in `limits.COSTS`
    iteration: int  # 0: the first one
    origin: str  # how it was made, such as "random", "mutation" or "crossover"
    share: float = 1.0  # as in `Score`

    @classmethod
    def scored(
        cls, arch: Arch, score: Score, costs: Mapping[str, float], iteration: int, origin: str
    ) -> "Candidate":
        """A candidate from its score; a loss that is not finite becomes infinite, the worst
        possible.
        """
        loss = float(score.loss) if math.isfinite(score.loss) else math.inf
        return cls(arch, loss, costs, iteration, origin, float(score.share))

    @property
    def flops(self) -> float:
        """The cost of that name: the second axis of the Pareto front."""
        return self.costs["flops"]

    @property
    def complete(self) -> bool:
        """Whether the loss covers the whole text; only such candidates are parents, the best one or
        on the front.
        """
        return self.share == 1

    @property
    def score(self) -> Score:
        return Score(self.loss, self.share)

    @property
    def rank(self) -> tuple[float, float, float]:
        """Sort key, best first: by loss, then by cost."""
        return self.loss, self.flops, self.costs["params"]

    def to_dict(self) -> dict[str, Any]:
        """Plain Python for JSON, which has no infinity: an infinite loss is None."""
        return {
            "arch": self.arch.to_dict(),
            "loss": self.loss if math.isfinite(self.loss) else None,
            **self.costs,
            "iteration": self.iteration,
            "origin": self.origin,
            "share": self.share,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Candidate":
        """The inverse of `to_dict`; raises `ValueError`, `KeyError` or `TypeError` for anything
        else.
        """
        loss = math.inf if value["loss"] is None else float(value["loss"])
        costs = {
            name: value[name] for name, cost in COSTS.items() if name in value or not cost.on_device
        }
        others = {name: value[name] for name in value if name not in COSTS}
        return cls(
            **{**others, "arch": Arch.from_dict(value["arch"]), "loss": loss, "costs": costs}
        )
