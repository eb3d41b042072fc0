"""The CPU's backend: loops over the blocks that exist, with traced trip counts."""

import jax
import jax.numpy as jnp

from automoe_jax.ops.dropout import keep_scale, kept_scale
from automoe_jax.ops.grouped.sorting import Layout
from automoe_jax.ops.grouped.table import Blocks, Experts, HiddenDropout, Owned


def forward(
    blocks: Blocks, x: jax.Array, experts: Experts, owned: Owned, plan: Layout, dropout: HiddenDropout | None
) -> tuple[jax.Array, jax.Array]:
    """The experts on sorted rows x [P, D] → [P, D] and hidden units [P, widest, in whole column blocks]."""
    rows, columns, wide = x.shape[0] // plan.block_expert.shape[0], blocks.columns, blocks.padded_widest
    most_columns = wide // columns

    def row_block(block, carry):
        hidden, y = carry
        expert = plan.block_expert[block]
        x_block = _block(x, block * rows, rows)

        def column(j, inner):
            hidden, total = inner
            unit = owned.starts[expert] + j * columns
            pre = x_block @ _block(experts.w_in, unit, columns).T + _block(experts.b_in, unit, columns)
            exists = jnp.arange(columns) < owned.widths[expert] - j * columns
            part = jnp.where(exists, jax.nn.relu(pre), 0)
            if dropout is not None:
                key = jax.random.fold_in(dropout.rng, block * most_columns + j)
                part = part * keep_scale(key, dropout.rates[expert], part.shape).astype(part.dtype)
            hidden = jax.lax.dynamic_update_slice(hidden, part, (block * rows, j * columns))
            return hidden, total + _matmul(part, _block(experts.w_out, unit, columns))

        total = jnp.broadcast_to(experts.b_out[expert].astype(jnp.float32), x_block.shape)
        hidden, total = jax.lax.fori_loop(0, _columns_of(owned.widths[expert], columns), column, (hidden, total))
        return hidden, jax.lax.dynamic_update_slice_in_dim(y, total.astype(y.dtype), block * rows, 0)

    hidden = jnp.zeros((x.shape[0], wide), x.dtype)
    hidden, y = jax.lax.fori_loop(0, plan.blocks, row_block, (hidden, jnp.zeros_like(x)))
    return y, hidden


def backward(
    blocks: Blocks,
    x: jax.Array,
    hidden: jax.Array,
    experts: Experts,
    owned: Owned,
    plan: Layout,
    dropout: HiddenDropout | None,
    dy: jax.Array,
) -> tuple[jax.Array, Experts]:
    """The gradients by x [P, D] and, in float32, by the weights, for dy [P, D] and what `forward` returned."""
    rows, columns = x.shape[0] // plan.block_expert.shape[0], blocks.columns

    def row_block(block, carry):
        dx, d_experts = carry
        expert = plan.block_expert[block]
        x_block, dy_block = (_block(array, block * rows, rows) for array in (x, dy))
        scale = 1.0 if dropout is None else kept_scale(dropout.rates[expert])

        def column(j, inner):
            dx_block, d = inner
            unit = owned.starts[expert] + j * columns
            part = jax.lax.dynamic_slice(hidden, (block * rows, j * columns), (rows, columns))
            # A unit that passed is positive after dropout too, so the mask need not be drawn again.
            d_pre = jnp.where(part > 0, dy_block @ _block(experts.w_out, unit, columns).T * scale, 0).astype(x.dtype)
            d = d._replace(
                w_in=_add_block(d.w_in, unit, _matmul(d_pre.T, x_block)),
                b_in=_add_block(d.b_in, unit, d_pre.sum(0, dtype=jnp.float32)),
                w_out=_add_block(d.w_out, unit, _matmul(part.T, dy_block)),
            )
            return dx_block + _matmul(d_pre, _block(experts.w_in, unit, columns)), d

        dx_block = jnp.zeros(x_block.shape, jnp.float32)
        dx_block, d_experts = jax.lax.fori_loop(0, _columns_of(owned.widths[expert], columns), column, (dx_block, d_experts))
        d_bias = _add_block(d_experts.b_out, expert, dy_block.sum(0, keepdims=True, dtype=jnp.float32))
        dx = jax.lax.dynamic_update_slice_in_dim(dx, dx_block.astype(dx.dtype), block * rows, 0)
        return dx, d_experts._replace(b_out=d_bias)

    zeros = jax.tree.map(lambda weight: jnp.zeros(weight.shape, jnp.float32), experts)
    return jax.lax.fori_loop(0, plan.blocks, row_block, (jnp.zeros_like(x), zeros))


def _columns_of(width: jax.Array, columns: int) -> jax.Array:
    """How many column blocks an expert of this width has."""
    return -(-jnp.maximum(width, 0) // columns)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a · b summed in float32 whatever the inputs are."""
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _block(x: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """x[start : start + size] for a traced start."""
    return jax.lax.dynamic_slice_in_dim(x, start, size)


def _add_block(x: jax.Array, start: jax.Array, part: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(x, _block(x, start, part.shape[0]) + part, start, 0)
