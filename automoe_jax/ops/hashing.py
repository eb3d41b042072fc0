"""Hashes of numbers with a few words of seed, equal on every device."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, UInt32

from automoe_jax.ops.constants import MURMUR, SPREAD

Word = int | jax.Array


def hashed(words: Sequence[Word], numbers: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """uint32 of the shape of `numbers` (uint32): each hashed with the words, by the finaliser of
    MurmurHash3.

    For dropout and random routes only; not cryptographic. It fuses into its consumer, on every
    device and under every sharding.
    """
    *first, last = (jnp.asarray(word).astype(jnp.uint32) for word in words)
    seed = jnp.zeros((), jnp.uint32)
    for word in first:
        seed = _mixed(seed + word)
    return _mixed(_mixed(numbers ^ seed) + last)


def key_words(key: PRNGKeyArray) -> list[UInt32[Array, ""]]:
    """The words of a key of `jax.random`."""
    return list(jnp.reshape(jax.random.key_data(key), -1))


def hashed_sentences(tokens: Int[Array, "B S"], pad_id: int) -> UInt32[Array, "B"]:
    """uint32 [B]: one hash per sentence of tokens [B, S]; depends on the tokens and their order,
    not on padding.
    """
    real = tokens != pad_id
    place = jnp.cumsum(real, axis=1).astype(jnp.uint32) * jnp.uint32(SPREAD)
    return jnp.sum(
        jnp.where(real, _mixed(tokens.astype(jnp.uint32) + place), 0), axis=1, dtype=jnp.uint32
    )


def hashed_positions(
    sentences: UInt32[Array, "..."], positions: Int[Array, "..."]
) -> UInt32[Array, "..."]:
    """uint32: one hash per position of each sentence; both broadcast."""
    return _mixed(sentences + positions.astype(jnp.uint32) * jnp.uint32(SPREAD))


def _mixed(x: jax.Array) -> jax.Array:
    for shift, factor in MURMUR:
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)
