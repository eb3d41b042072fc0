"""Layer normalisation."""

import jax
import jax.numpy as jnp

EPSILON = 1e-5


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Normalises x [..., D] over its last axis with the biased variance; statistics in float32,
    result in x's dtype.
    """
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    return ((wide - mean) * jax.lax.rsqrt(variance + EPSILON) * scale + bias).astype(x.dtype)
