"""Layer normalisation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from automoe_jax.ops.constants import EPSILON


def layer_norm(
    x: Float[Array, "*batch D"], scale: Float[Array, "D"], bias: Float[Array, "D"]
) -> Float[Array, "*batch D"]:
    """Normalises x [..., D] over its last axis with the biased variance; statistics in float32,
    result in x's dtype.
    """
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    normal = (wide - mean) * jax.lax.rsqrt(variance + EPSILON)
    scale, bias = (jnp.broadcast_to(weight, x.shape) for weight in (scale, bias))
    return (normal * scale + bias).astype(x.dtype)
