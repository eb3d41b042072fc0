"""Masks of a traced architecture, computed inside `jit`.

Embedding widths are not masked: they are few, and each has its own branch of exact shapes (see
`model.transformer.at_widths`). Absent layers are skipped and absent experts are not computed. The
remaining masks are here.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from automoe_jax.arch import ABSENT


def depth(heads: Int[Array | np.ndarray, "L"]) -> Int[Array, ""]:
    """Number of layers, from the heads [L] of one side."""
    return jnp.sum(jnp.asarray(heads) != ABSENT)


def memory_allowed(
    source_real: Bool[Array, "B S"], cross_layers: Int[Array, ""] | int, most: int
) -> Bool[Array, "B 1 1 keys"]:
    """Tokens that a decoder layer may attend to, among those of the newest `most` encoder layers,
    concatenated along time.

    source_real [B, S] → bool [B, 1, 1, most · S]; only the newest `cross_layers` count.
    """
    allowed = (jnp.arange(most) < cross_layers)[None, :, None] & source_real[:, None, :]
    return allowed.reshape(source_real.shape[0], 1, 1, -1)


def causal(length: int) -> Bool[Array, "1 1 T T"]:
    """bool [1, 1, T, T]: a position sees itself and earlier positions."""
    return jnp.tril(jnp.ones((length, length), bool))[None, None]
