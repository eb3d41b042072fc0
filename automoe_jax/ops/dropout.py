"""Dropout with a rate that may be traced."""

import jax
import jax.numpy as jnp

_STEPS = 1 << 16  # sixteen random bits an element: half the price of a float, and rates exact to 1.5e-5


def kept_scale(rate: jax.Array | float) -> jax.Array:
    """What a kept element is multiplied with: 1 / (1 − rate)."""
    return _STEPS / (_STEPS - jnp.round(jnp.asarray(rate, jnp.float32) * _STEPS))


def keep_scale(key: jax.Array, rate: jax.Array | float, shape: tuple[int, ...]) -> jax.Array:
    """float32 [shape]: 0 with probability `rate` (a scalar, traced or not), else 1 / (1 − rate)."""
    threshold = jnp.round(jnp.asarray(rate, jnp.float32) * _STEPS)
    keep = jax.random.bits(key, shape, jnp.uint16) >= threshold.astype(jnp.uint16)
    return jnp.where(keep, kept_scale(rate), 0.0)


def dropout(x: jax.Array, rate: jax.Array | float, key: jax.Array | None) -> jax.Array:
    """x with each element dropped with probability `rate` and the rest scaled up; unchanged without a key."""
    if key is None or (isinstance(rate, float) and rate == 0.0):
        return x
    return x * keep_scale(key, rate, x.shape).astype(x.dtype)
