"""What a traced architecture switches on, computed inside `jit`.

Widths of embeddings are not masked: they are few, and each has its own branch of exact shapes (see
`model.transformer.at_widths`). Depth is skipped, experts are not computed; what remains to be
masked is here.
"""

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.arch import ABSENT


def depth(heads: jax.Array | np.ndarray) -> jax.Array:
    """How many layers exist, from the heads [L] of one side."""
    return jnp.sum(jnp.asarray(heads) != ABSENT)


def memory_allowed(source_real: jax.Array, cross_layers: jax.Array | int, most: int) -> jax.Array:
    """Which of the newest `most` encoder layers' tokens, side by side along time, a decoder layer
    may look at.

    source_real [B, S] → bool [B, 1, 1, most · S]; only the newest `cross_layers` count.
    """
    allowed = (jnp.arange(most) < cross_layers)[None, :, None] & source_real[:, None, :]
    return allowed.reshape(len(source_real), 1, 1, -1)


def causal(length: int) -> jax.Array:
    """bool [1, 1, T, T]: a position sees itself and what came before."""
    return jnp.tril(jnp.ones((length, length), bool))[None, None]
