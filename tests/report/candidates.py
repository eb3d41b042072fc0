"""Candidates of an invented search."""

from automoe_jax.arch import Arch
from automoe_jax.search.candidate import Candidate
from automoe_jax.space import SearchSpace

_ARCH = SearchSpace().smallest()


def candidate(
    loss: float,
    flops: float,
    origin: str,
    arch: Arch = _ARCH,
    share: float = 1.0,
) -> Candidate:
    costs = {"flops": flops, "params": 4e5, "active_params": 2e5}
    return Candidate(arch, loss, costs, iteration=0, origin=origin, share=share)
