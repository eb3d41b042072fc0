"""One scored architecture of a search."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from automoe_jax.arch import Arch
from automoe_jax.costs import Costs

ORIGINS = ("random", "mutation", "crossover")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An architecture, its loss (lower is better; infinite where the score was not finite) and what it costs."""

    arch: Arch
    loss: float
    flops: float  # expected, without the vocabulary projection
    params: int  # without embeddings
    active_params: float  # mean over routings, without embeddings
    iteration: int  # 0: the random population
    origin: str  # one of ORIGINS

    @classmethod
    def scored(cls, arch: Arch, loss: float, costs: Costs, iteration: int, origin: str) -> "Candidate":
        """A candidate from its score; a loss that is not finite becomes infinite, the worst there is."""
        loss = float(loss) if math.isfinite(loss) else math.inf
        return cls(arch, loss, costs.flops, costs.params, costs.active_params, iteration, origin)

    @property
    def rank(self) -> tuple[float, float, float]:
        """Sorts the best first: by loss, then the cheaper."""
        return self.loss, self.flops, self.params

    def to_dict(self) -> dict[str, Any]:
        """Plain Python for JSON, which has no infinity: an infinite loss is None."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"arch": self.arch.to_dict(), "loss": self.loss if math.isfinite(self.loss) else None}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Candidate":
        """The inverse of `to_dict`; raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        loss = math.inf if value["loss"] is None else float(value["loss"])
        return cls(**{**value, "arch": Arch.from_dict(value["arch"]), "loss": loss})
