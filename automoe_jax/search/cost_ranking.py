"""Search by costs alone: the architecture with the most FLOPs, then parameters, within the limits.

The baseline that a search with a trained SuperNet has to beat: it needs no scores.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from automoe_jax.arch import Arch
from automoe_jax.config import SearchConfig
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.ledger import Ledger, Proposal
from automoe_jax.search.limits import CostFunction
from automoe_jax.search.sampling import even_draws, largest_within
from automoe_jax.search.stopping import Trial
from automoe_jax.space import SearchSpace


def search(
    space: SearchSpace,
    settings: SearchConfig,
    *,
    score: Callable[[Sequence[Trial]], Iterable[Score]],
    cost: CostFunction,
    seed: int,
    record: Callable[[Candidate], None] = lambda candidate: None,
    known: Mapping[Arch, Score] | None = None,
    progress: Callable[[int, int, float], None] = lambda iteration, done, best_loss: None,
) -> list[Candidate]:
    """As `algorithms.Search`; the largest of `sampling.LARGEST_OF` draws within the limits is the
    only candidate, whatever the seed. It is scored for the report.

    Raises `UserError` when the smallest architecture exceeds a limit.
    """
    arch = largest_within(space, settings, cost, even_draws(space, settings, cost))
    ledger = Ledger(score, known or {}, record, progress)
    ledger.add(0, [Proposal(arch, cost(arch), "largest")])
    return ledger.candidates


def max_candidates(settings: SearchConfig) -> int:
    """Number of architectures that the search scores."""
    return 1
