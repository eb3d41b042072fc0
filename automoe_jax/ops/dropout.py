"""Dropout with a rate that may be traced."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Key, PRNGKeyArray, UInt32

from automoe_jax.ops.hashing import hashed, key_words

_STEPS = 1 << 24  # float32 represents every integer up to here: rates are exact to 6e-8


def kept_scale(rate: Float[Array, "*shape"] | float) -> Float32[Array, "*shape"]:
    """Factor of a kept element: 1 / (1 − rate)."""
    return _STEPS / (_STEPS - jnp.round(jnp.asarray(rate, jnp.float32) * _STEPS))


def keep_scale(
    key: PRNGKeyArray,
    rate: Float[Array, "..."] | float,
    shape: tuple[int, ...],
    first: Int[Array, ""] | int = 0,
) -> Float32[Array, "..."]:
    """float32 [shape]: 0 with probability `rate` (traced or not, broadcastable), else 1 / (1 −
    rate); `first` as in `random_bits`.
    """
    threshold = jnp.round(jnp.asarray(rate, jnp.float32) * _STEPS)
    keep = random_bits(key, shape, first) >> 8 >= threshold.astype(jnp.uint32)
    return jnp.where(keep, kept_scale(rate), 0.0)


def dropout(
    x: Float[Array, "*shape"], rate: Float[Array, "..."] | float, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """x with each element dropped with probability `rate` and the rest scaled up; unchanged without
    a key.
    """
    if key is None or (isinstance(rate, float) and rate == 0.0):
        return x
    return x * keep_scale(key, rate, x.shape).astype(x.dtype)


def split(key: PRNGKeyArray, count: int) -> Key[Array, "count"]:
    """`count` keys from one, for a few hashes; do not use `key` for anything else."""
    words = random_bits(key, (count, *jax.random.key_data(key).shape))
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def random_bits(
    key: PRNGKeyArray, shape: tuple[int, ...], first: Int[Array, ""] | int = 0
) -> UInt32[Array, "..."]:
    """uint32 [shape]: the indices of the elements, starting at `first`, hashed with the key.

    The generators of `jax.random` took a third of a training step on CPU.
    """
    number = jax.lax.iota(jnp.uint32, int(np.prod(shape, dtype=np.int64))).reshape(
        shape
    ) + jnp.asarray(first).astype(jnp.uint32)
    return hashed(key_words(key), number)
