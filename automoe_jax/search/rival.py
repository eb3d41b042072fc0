"""The dense rival of a search: the best architecture without experts under the same limits.

It shows whether experts are of use. It is found in HAT's subspace (arXiv 2005.14187), one expert in
every layer, with the same SuperNet, algorithm, limits and number of evaluations.

This module imports no JAX.
"""

from automoe_jax.config import Config
from automoe_jax.search.limits import limits
from automoe_jax.space import SearchSpace


def subspace(config: Config) -> SearchSpace | None:
    """The space that the rival is searched in. None where the settings want no rival, where nothing
    is limited (the largest dense architecture is the rival then), or where the space has only dense
    architectures or none.
    """
    space = config.space
    sides = ("encoder", "decoder") if space.max_decoder_layers else ("encoder",)
    has_dense = all(1 in space.expert_counts(side, 0) for side in sides)
    wanted = config.search.dense_rival and bool(limits(config.search))
    return space.dense() if wanted and space.is_routed and has_dense else None
