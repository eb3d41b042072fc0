"""The CPU's backend: loops over the row blocks that exist, with traced trip counts.

Neighbouring blocks of an expert are taken together where there are enough, for wider products and fewer additions to
the weights' gradients; what is left over is taken one by one, so that little is computed in vain.

Axes: P padded rows of the sorted tokens · R rows of a block · D embedding width · F units of the expert at hand.
"""

import functools
import itertools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from automoe_jax.ops.dropout import keep_scale, kept_scale
from automoe_jax.ops.grouped.sorting import Layout
from automoe_jax.ops.grouped.table import Experts, HiddenDropout, Owned

TOGETHER = 4  # blocks

T = TypeVar("T")


def forward(
    ffn_dims: tuple[int, ...], x: jax.Array, experts: Experts, owned: Owned, plan: Layout, dropout: HiddenDropout | None
) -> tuple[jax.Array, jax.Array]:
    """The experts on sorted rows x [P, D] → [P, D] and hidden units [P, widest]; what lies beyond an expert is not defined."""

    def piece(units: int, expert: jax.Array, row: jax.Array, rows: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, y = carry
        first = owned.starts[expert]
        part = jax.nn.relu(_block(x, row, rows) @ _block(experts.w_in, first, units).T + _block(experts.b_in, first, units))
        if dropout is not None:
            keep = keep_scale(dropout.rng, dropout.rates[expert], part.shape, first=row * ffn_dims[-1])
            part = part * keep.astype(part.dtype)
        total = _matmul(part, _block(experts.w_out, first, units)) + experts.b_out[expert]
        hidden = jax.lax.dynamic_update_slice(hidden, part, (row, 0))
        return hidden, jax.lax.dynamic_update_slice_in_dim(y, total.astype(y.dtype), row, 0)

    hidden, y = _over_blocks(ffn_dims, x, owned, plan, piece, (jnp.zeros((x.shape[0], ffn_dims[-1]), x.dtype), jnp.zeros_like(x)))
    return y, hidden


def backward(
    ffn_dims: tuple[int, ...],
    x: jax.Array,
    hidden: jax.Array,
    experts: Experts,
    owned: Owned,
    plan: Layout,
    dropout: HiddenDropout | None,
    dy: jax.Array,
) -> tuple[jax.Array, Experts]:
    """The gradients by x [P, D] and, in float32, by the weights, for dy [P, D] and what `forward` returned."""

    def piece(units: int, expert: jax.Array, row: jax.Array, rows: int, carry: tuple[jax.Array, Experts]) -> tuple[jax.Array, Experts]:
        dx, d_experts = carry
        first = owned.starts[expert]
        x_block, dy_block = (_block(array, row, rows) for array in (x, dy))
        part = jax.lax.dynamic_slice(hidden, (row, 0), (rows, units))
        scale = 1.0 if dropout is None else kept_scale(dropout.rates[expert])
        # A unit that passed is positive after dropout too, so the mask need not be drawn again.
        d_pre = jnp.where(part > 0, dy_block @ _block(experts.w_out, first, units).T * scale, 0).astype(x.dtype)
        dx_block = d_pre @ _block(experts.w_in, first, units)
        d_experts = Experts(
            _add_block(d_experts.w_in, first, _matmul(d_pre.T, x_block)),
            _add_block(d_experts.b_in, first, d_pre.sum(0, dtype=jnp.float32)),
            _add_block(d_experts.w_out, first, _matmul(part.T, dy_block)),
            _add_block(d_experts.b_out, expert, dy_block.sum(0, keepdims=True, dtype=jnp.float32)),
        )
        return jax.lax.dynamic_update_slice_in_dim(dx, dx_block, row, 0), d_experts

    zeros = jax.tree.map(lambda weight: jnp.zeros(weight.shape, jnp.float32), experts)
    return _over_blocks(ffn_dims, x, owned, plan, piece, (jnp.zeros_like(x), zeros))


def _over_blocks(ffn_dims: tuple[int, ...], x: jax.Array, owned: Owned, plan: Layout, piece: Callable[..., T], carry: T) -> T:
    """Folds `piece(units, expert, first row, rows, carry)` over the rows of all experts; `units` and `rows` are static.

    A loop for each static size, some of them with nothing to do: a conditional would copy what it hands on.
    """
    rows = x.shape[0] // plan.block_expert.shape[0]
    exists = jnp.arange(plan.block_expert.shape[0]) < plan.blocks
    own = jnp.sum(exists[:, None] & (plan.block_expert[:, None] == jnp.arange(owned.widths.shape[0])), axis=0)
    first = jnp.cumsum(own) - own
    together = own // TOGETHER
    sizes = ((TOGETHER, first, together), (1, first + together * TOGETHER, own - together * TOGETHER))
    for units, (count, starts, parts) in itertools.product(ffn_dims, sizes):
        if count * rows > len(x):
            continue
        carry = _fold(functools.partial(piece, units), count, rows, starts, jnp.where(owned.widths == units, parts, 0), carry)
    return carry


def _fold(piece: Callable[..., T], count: int, rows: int, starts: jax.Array, parts: jax.Array, carry: T) -> T:
    """Folds `piece` over `parts` [E] pieces of `count` blocks each, from block `starts` [E] on."""
    ends = jnp.cumsum(parts)

    def step(i: jax.Array, carry: T) -> T:
        expert = jnp.sum(i >= ends)
        return piece(expert, (starts[expert] + (i - ends[expert] + parts[expert]) * count) * rows, count * rows, carry)

    return jax.lax.fori_loop(0, ends[-1], step, carry)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a · b summed in float32 whatever the inputs are."""
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _block(x: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """x[start : start + size] for a traced start."""
    return jax.lax.dynamic_slice_in_dim(x, start, size)


def _add_block(x: jax.Array, start: jax.Array, part: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(x, _block(x, start, part.shape[0]) + part, start, 0)
