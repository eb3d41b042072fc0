"""Scoring of proposals, common to all search algorithms: known scores are reused, new ones
recorded.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from automoe_jax.arch import Arch
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.stopping import Trial


class Proposal(NamedTuple):
    """An architecture that an algorithm wants to be scored."""

    arch: Arch
    costs: Mapping[str, float]
    origin: str  # how it was made: "random", "mutation", "crossover" or an algorithm's own word
    # a candidate: being worse than it suffices to stop the scoring early
    rival: Arch | None = None


@dataclasses.dataclass
class Ledger:
    """The candidates of a search so far; the fields are arguments of `algorithms.Search`."""

    score: Callable[[Sequence[Trial]], Iterable[Score]]
    known: Mapping[Arch, Score]
    record: Callable[[Candidate], None]
    progress: Callable[[int, int, float], None]
    candidates: list[Candidate] = dataclasses.field(default_factory=list)

    def add(self, iteration: int, proposals: Sequence[Proposal]) -> None:
        """Scores the proposals of an iteration together, and appends a candidate for each."""
        new = [proposal for proposal in proposals if proposal.arch not in self.known]
        trials = [Trial(proposal.arch, proposal.rival) for proposal in new]
        scores = iter(self.score(trials) if trials else ())
        for arch, costs, origin, _ in proposals:
            known = self.known.get(arch)
            candidate = Candidate.scored(arch, known or next(scores), costs, iteration, origin)
            if known is None:
                self.record(candidate)
            self.candidates.append(candidate)
            lowest = min(one.loss for one in self.candidates)
            self.progress(iteration, len(self.candidates), lowest)
