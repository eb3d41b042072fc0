"""Quality of a front: the part of the plane of loss and cost that it dominates.

The plane is the rectangle from (0, 0) to a reference point. The hypervolume is the share of its
area that is dominated by at least one candidate: 0 for no candidate within the rectangle, 1 for one
with neither loss nor cost.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import moocore
import numpy as np

from automoe_jax.search.candidate import Candidate


class Reference(NamedTuple):
    """The fixed reference point; hypervolumes compare only for equal ones."""

    loss: float
    cost: float
    name: str  # of the cost


def hypervolume(candidates: Iterable[Candidate], reference: Reference) -> float:
    """The share of the rectangle that the candidates dominate; those that were stopped early do not
    count.
    """
    points = [(one.loss, one.costs[reference.name]) for one in candidates if one.complete]
    ratios = np.array(points).reshape(-1, 2) / (reference.loss, reference.cost)
    within = ratios[(ratios < 1).all(axis=1)]
    return float(moocore.hypervolume(within, ref=[1.0, 1.0])) if len(within) else 0.0


def by_generation(candidates: Sequence[Candidate], reference: Reference) -> list[float]:
    """The hypervolume of all candidates up to each generation, the first one included."""
    generations = sorted({one.iteration for one in candidates})
    return [
        hypervolume((one for one in candidates if one.iteration <= generation), reference)
        for generation in generations
    ]


def to_json(candidates: Sequence[Candidate], reference: Reference) -> dict[str, Any]:
    """The reference point and the hypervolume after each generation."""
    return {
        "reference": {"loss": reference.loss, reference.name: reference.cost},
        "by_generation": by_generation(candidates, reference),
    }
