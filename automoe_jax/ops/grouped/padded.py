"""Portable products: one batched product over all blocks of rows, each with its expert's matrix.

Blocks that are not live are multiplied too, so the time follows the largest width. For platforms
without a kernel here, and for shapes that a kernel does not support.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from automoe_jax.ops.grouped.strips import Groups, Products


def _by_block(x: jax.Array, groups: Groups) -> jax.Array:
    """[P, …] → [B, R, …]."""
    return x.reshape(groups.expert.shape[0], -1, x.shape[-1])


def up(x: Float[Array, "P D"], w: Float[Array, "E F D"], groups: Groups) -> Float[Array, "P F"]:
    """x [P, D], w [E, F, D] → [P, F] in x's type."""
    return jnp.einsum("brd,bfd->brf", _by_block(x, groups), w[groups.expert]).reshape(
        x.shape[0], -1
    )


def down(h: Float[Array, "P F"], w: Float[Array, "E F D"], groups: Groups) -> Float32[Array, "P D"]:
    """h [P, F], w [E, F, D] → float32 [P, D]."""
    y = jnp.einsum(
        "brf,bfd->brd", _by_block(h, groups), w[groups.expert], preferred_element_type=jnp.float32
    )
    return y.reshape(h.shape[0], -1)


def outer(
    h: Float[Array, "P F"], x: Float[Array, "P D"], groups: Groups
) -> Float32[Array, "E F D"]:
    """h [P, F], x [P, D] → float32 [E, F, D], the sum over an expert's live rows."""
    h_blocks = jnp.where(groups.live[:, None, None], _by_block(h, groups), 0)
    by_block = jnp.einsum(
        "brf,brd->bfd", h_blocks, _by_block(x, groups), preferred_element_type=jnp.float32
    )
    return jax.ops.segment_sum(by_block, groups.expert, groups.order.shape[0])


PRODUCTS = Products(up, down, outer)
