"""CPU backend: loops over existing blocks of rows, expert by expert, with traced trip counts.

An expert's weights are sliced from the table once, and its gradients are written once, for any
number of blocks. Neighbouring blocks are combined where there are enough, for wider products and
fewer additions to the gradients; the remaining blocks are processed one by one, so little padding
is computed.

Axes: P padded rows of the sorted tokens · R rows of a block · D embedding width · F units of the
current expert.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from automoe_jax.ops.dropout import keep_scale, kept_scale
from automoe_jax.ops.grouped.sorting import BlockLayout
from automoe_jax.ops.grouped.table import ExpertRows, Experts, HiddenDropout

TOGETHER = (8, 2, 1)  # blocks

T = TypeVar("T")


def forward(
    ffn_dims: tuple[int, ...],
    x: Float[Array, "P D"],
    experts: Experts,
    expert_rows: ExpertRows,
    layout: BlockLayout,
    dropout: HiddenDropout | None,
) -> tuple[Float[Array, "P D"], Float[Array, "P F"]]:
    """The experts on sorted rows x [P, D] → [P, D] and hidden units [P, widest]; values beyond an
    expert are undefined.
    """

    def one(
        units: int, expert: jax.Array, over_rows: Callable, carry: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        own = _own(experts, expert_rows, expert, units)

        def piece(
            row: jax.Array, rows: int, carry: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            hidden, y = carry
            part = jax.nn.relu(_block(x, row, rows) @ own.w_in.T + own.b_in[None])
            if dropout is not None:
                keep = keep_scale(
                    dropout.rng, dropout.rates[expert], part.shape, first=row * ffn_dims[-1]
                )
                part = part * keep.astype(part.dtype)
            total = (_matmul(part, own.w_out) + own.b_out).astype(y.dtype)
            hidden = jax.lax.dynamic_update_slice(hidden, part, (row, 0))
            return hidden, jax.lax.dynamic_update_slice_in_dim(y, total, row, 0)

        return over_rows(piece, carry)

    hidden, y = _over_experts(
        ffn_dims,
        len(x),
        expert_rows,
        layout,
        one,
        (jnp.zeros((len(x), ffn_dims[-1]), x.dtype), jnp.zeros_like(x)),
    )
    return y, hidden


def backward(
    ffn_dims: tuple[int, ...],
    x: Float[Array, "P D"],
    hidden: Float[Array, "P F"],
    experts: Experts,
    expert_rows: ExpertRows,
    layout: BlockLayout,
    dropout: HiddenDropout | None,
    dy: Float[Array, "P D"],
) -> tuple[Float[Array, "P D"], Experts]:
    """Gradients with respect to x [P, D] and, in float32, to the weights, for dy [P, D] and the
    results of `forward`.
    """

    def one(
        units: int, expert: jax.Array, over_rows: Callable, carry: tuple[jax.Array, Experts]
    ) -> tuple[jax.Array, Experts]:
        own = _own(experts, expert_rows, expert, units)
        scale = 1.0 if dropout is None else kept_scale(dropout.rates[expert])

        def piece(
            row: jax.Array, rows: int, carry: tuple[jax.Array, Experts]
        ) -> tuple[jax.Array, Experts]:
            dx, d_own = carry
            x_block, dy_block = (_block(array, row, rows) for array in (x, dy))
            part = jax.lax.dynamic_slice(hidden, (row, 0), (rows, units))
            # An active unit is positive after dropout too, so the mask need not be drawn again.
            d_pre = jnp.where(part > 0, dy_block @ own.w_out.T * scale, 0).astype(x.dtype)
            dx = jax.lax.dynamic_update_slice_in_dim(dx, d_pre @ own.w_in, row, 0)
            more = Experts(
                _matmul(d_pre.T, x_block),
                d_pre.sum(0, dtype=jnp.float32),
                _matmul(part.T, dy_block),
                dy_block.sum(0, keepdims=True, dtype=jnp.float32),
            )
            return dx, jax.tree.map(jnp.add, d_own, more)

        dx, d_experts = carry
        dx, d_own = over_rows(piece, (dx, _zeros(own)))
        first = expert_rows.starts[expert]
        places = Experts(first, first, first, expert)
        return dx, jax.tree.map(
            lambda x, part, place: jax.lax.dynamic_update_slice_in_dim(x, part, place, 0),
            d_experts,
            d_own,
            places,
        )

    return _over_experts(
        ffn_dims, len(x), expert_rows, layout, one, (jnp.zeros_like(x), _zeros(experts))
    )


def _over_experts(
    ffn_dims: tuple[int, ...],
    rows: int,
    expert_rows: ExpertRows,
    layout: BlockLayout,
    one: Callable[..., T],
    carry: T,
) -> T:
    """Folds `one(units, expert, over_rows, carry)` over the experts that have rows; `units` is
    static.

    One loop per width, some without iterations: a conditional would copy its operands.
    """
    count = expert_rows.widths.shape[0]
    size = rows // layout.block_expert.shape[0]
    exists = jnp.arange(layout.block_expert.shape[0]) < layout.blocks
    of_expert = layout.block_expert[:, None] == jnp.arange(count)[None]
    blocks = jnp.sum(exists[:, None] & of_expert, axis=0)
    first = jnp.cumsum(blocks) - blocks

    def over_rows(expert: jax.Array, piece: Callable[..., T], carry: T) -> T:
        """Folds `piece(first row, rows, carry)` over the rows of an expert; `rows` is static."""
        block, left = first[expert], blocks[expert]
        for together in TOGETHER:
            if together * size > rows:
                continue
            take = functools.partial(_take, piece, together * size, block * size)
            carry = jax.lax.fori_loop(0, left // together, take, carry)
            block, left = block + left // together * together, left % together
        return carry

    for units in ffn_dims:
        wanted = (expert_rows.widths == units) & (blocks > 0)
        members = jnp.argsort(~wanted, stable=True)

        def step(i: jax.Array, carry: T, units: int = units, members: jax.Array = members) -> T:
            return one(units, members[i], functools.partial(over_rows, members[i]), carry)

        carry = jax.lax.fori_loop(0, wanted.sum(), step, carry)
    return carry


def _take(piece: Callable[..., T], rows: int, first: jax.Array, i: jax.Array, carry: T) -> T:
    return piece(first + i * rows, rows, carry)


def _own(experts: Experts, expert_rows: ExpertRows, expert: jax.Array, units: int) -> Experts:
    """An expert's weights: w_in and w_out [F, D], b_in [F], b_out [1, D]."""
    first = expert_rows.starts[expert]
    w_in, b_in, w_out = (_block(weight, first, units) for weight in experts[:3])
    return Experts(w_in, b_in, w_out, _block(experts.b_out, expert, 1))


def _zeros(experts: Experts) -> Experts:
    return jax.tree.map(lambda weight: jnp.zeros(weight.shape, jnp.float32), experts)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a · b, summed in float32 for any inputs."""
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _block(x: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """x[start : start + size] for a traced start."""
    return jax.lax.dynamic_slice_in_dim(x, start, size)
