"""The best candidate, and the Pareto front of loss and a cost."""

import math
from collections.abc import Iterable

from automoe_jax.errors import UserError
from automoe_jax.search.candidate import Candidate


def pareto_front(candidates: Iterable[Candidate], cost: str = "flops") -> list[Candidate]:
    """Candidates that no other dominates in loss and the cost of that name, cheapest first.

    Of candidates equal in both, the first is on the front; candidates that were stopped or whose
    loss is not finite are left out.
    """
    front: list[Candidate] = []
    for candidate in sorted(
        (one for one in candidates if one.complete), key=lambda one: (one.costs[cost], one.loss)
    ):
        if candidate.loss < (front[-1].loss if front else math.inf):
            front.append(candidate)
    return front


def best(candidates: Iterable[Candidate]) -> Candidate:
    """The candidate with the lowest loss, among equals the one with the fewest FLOPs, then
    parameters, then the first; none that was stopped.

    Raises `UserError` when no candidate has a finite loss.
    """
    finite = [
        candidate
        for candidate in candidates
        if candidate.complete and math.isfinite(candidate.loss)
    ]
    if not finite:
        raise UserError(
            "no candidate of the search has a finite loss; train the SuperNet longer or at a lower"
            " learning rate"
        )
    return min(finite, key=lambda candidate: candidate.rank)
