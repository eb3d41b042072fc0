"""One scored architecture of a search."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from automoe_jax.arch import Arch
from automoe_jax.costs import Costs

ORIGINS = ("random", "mutation", "crossover")


class Score(NamedTuple):
    """What a score function says of an architecture."""

    loss: float  # lower is better
    # of the validation text that was scored; below 1 the candidate was stopped, and the loss is an
    # estimate
    share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An architecture, its loss (lower is better; infinite where the score was not finite) and what
    it costs.
    """

    arch: Arch
    loss: float
    flops: float  # expected, without the vocabulary projection
    params: int  # without embeddings
    active_params: float  # mean over routings, without embeddings
    iteration: int  # 0: the random population
    origin: str  # one of ORIGINS
    share: float = 1.0  # as in `Score`

    @classmethod
    def scored(
        cls, arch: Arch, score: Score, costs: Costs, iteration: int, origin: str
    ) -> "Candidate":
        """A candidate from its score; a loss that is not finite becomes infinite, the worst there
        is.
        """
        loss = float(score.loss) if math.isfinite(score.loss) else math.inf
        return cls(
            arch,
            loss,
            costs.flops,
            costs.params,
            costs.active_params,
            iteration,
            origin,
            float(score.share),
        )

    @property
    def complete(self) -> bool:
        """Whether the loss is that of the whole text; no other candidate is a parent, the best one
        or on the front.
        """
        return self.share == 1

    @property
    def score(self) -> Score:
        return Score(self.loss, self.share)

    @property
    def rank(self) -> tuple[float, float, float]:
        """Sorts the best first: by loss, then the cheaper."""
        return self.loss, self.flops, self.params

    def to_dict(self) -> dict[str, Any]:
        """Plain Python for JSON, which has no infinity: an infinite loss is None."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {
            "arch": self.arch.to_dict(),
            "loss": self.loss if math.isfinite(self.loss) else None,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Candidate":
        """The inverse of `to_dict`; raises `ValueError`, `KeyError` or `TypeError` for anything
        else.
        """
        loss = math.inf if value["loss"] is None else float(value["loss"])
        return cls(**{**value, "arch": Arch.from_dict(value["arch"]), "loss": loss})
