"""Dropless feed-forward experts of different widths whose cost is Σ tokens · width.

The hidden units of a layer's experts are the rows of one table: expert e owns `widths[e]` rows from `starts[e]` on.
Tokens are sorted by expert into blocks of rows; only the (row block, column block) pairs that exist are computed, in
loops whose trip counts are traced, with a gradient of their own. So one compilation serves every architecture, and a
sub-network pays for what it has (DESIGN 2.3).

Axes: N tokens · K choices · D embedding width · U hidden units of all experts · E experts · P padded rows of the
sorted tokens · R rows of a block · C hidden units of a column block.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.ops.dropout import dropout, keep_scale, kept_scale

MAX_BLOCK_ROWS = 128
MIN_BLOCK_ROWS = 8
MAX_BLOCK_COLUMNS = 512
MIN_BLOCK_COLUMNS = 64


class Experts(NamedTuple):
    """The weights of a layer's experts: relu(x · w_inᵀ + b_in) · w_out + b_out."""

    w_in: jax.Array  # [U, D]
    b_in: jax.Array  # [U]
    w_out: jax.Array  # [U, D]
    b_out: jax.Array  # [E, D]


class Layout(NamedTuple):
    """Where the (token, choice) pairs lie among the sorted rows."""

    row_pair: jax.Array  # [P] flat index n·K + k of the pair in each row, −1 in rows that hold none
    position: jax.Array  # [N, K] the row of each pair, −1 where no expert computes it
    block_expert: jax.Array  # [P/R] expert of each block
    blocks: jax.Array  # [] how many blocks exist


class Owned(NamedTuple):
    """Which rows of the hidden table each expert owns; concrete or traced int32 [E]."""

    starts: jax.Array | np.ndarray
    widths: jax.Array | np.ndarray  # 0: the identity expert, negative: absent


class Blocks(NamedTuple):
    """The static sizes of the column loop, from the widths an expert can have."""

    columns: int  # C
    widest: int  # the largest width
    aligned: bool  # every width is a multiple of C

    @property
    def padded_widest(self) -> int:
        return -(-self.widest // self.columns) * self.columns


def column_blocks(widths: Sequence[int]) -> Blocks:
    """C for experts of these widths: their greatest common divisor, unless that is too fine to multiply well."""
    widths = [width for width in widths if width > 0] or [1]
    columns = math.gcd(*widths)
    while columns > MAX_BLOCK_COLUMNS and columns % 2 == 0:
        columns //= 2
    if columns < MIN_BLOCK_COLUMNS:
        columns = min(max(widths), MAX_BLOCK_COLUMNS)
    return Blocks(columns, max(widths), all(width % columns == 0 for width in widths))


def block_rows(pairs: int, experts: int) -> int:
    """R: large enough to multiply well, small enough that half-filled last blocks cost little."""
    rows = 1 << max(int(pairs / (2 * experts)), 1).bit_length() - 1
    return min(max(rows, MIN_BLOCK_ROWS), MAX_BLOCK_ROWS)


def layout(chosen: jax.Array, widths: jax.Array, rows: int) -> Layout:
    """Sorts the pairs chosen [N, K] by expert into blocks of `rows`; pairs without a computing expert lie nowhere.

    widths [E]: an expert of width 0 (identity) or less (absent) computes nothing.
    """
    experts = widths.shape[0]
    flat = chosen.reshape(-1)
    pairs = flat.shape[0]
    computes = jnp.append(jnp.asarray(widths) > 0, False)
    expert = jnp.where(computes[flat], flat, experts)
    order = jnp.argsort(expert, stable=True)
    counts = jnp.sum(expert[:, None] == jnp.arange(experts + 1), axis=0, dtype=jnp.int32)
    first = jnp.cumsum(counts) - counts
    blocks = -(-counts[:experts] // rows)
    last_block = jnp.cumsum(blocks)
    total_blocks = -(-pairs // rows) + experts
    row_of_first = jnp.append((last_block - blocks) * rows, 0)
    sorted_expert = expert[order]
    row = row_of_first[sorted_expert] + jnp.arange(pairs) - first[sorted_expert]
    row = jnp.where(sorted_expert < experts, row, total_blocks * rows)
    row_pair = jnp.full((total_blocks * rows,), -1, jnp.int32).at[row].set(order.astype(jnp.int32), mode="drop")
    position = jnp.zeros((pairs,), jnp.int32).at[order].set(row.astype(jnp.int32))
    position = jnp.where(position < total_blocks * rows, position, -1)
    block_expert = jnp.sum(jnp.arange(total_blocks)[:, None] >= last_block, axis=1, dtype=jnp.int32)
    return Layout(row_pair, position.reshape(chosen.shape), jnp.minimum(block_expert, experts - 1), last_block[-1])


@jax.custom_vjp
def gather_rows(x: jax.Array, index: jax.Array, inverse: jax.Array) -> jax.Array:
    """x [I, D], index [O] → [O, D], zero rows where the index is negative.

    `inverse` [I, J] lists the outputs each input row went to (−1: none), so that the gradient is a gather as well:
    scattering is many times slower on CPU.
    """
    return jnp.where((index >= 0)[:, None], x[index], 0)


def _gather_rows_fwd(x: jax.Array, index: jax.Array, inverse: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return gather_rows(x, index, inverse), (index, inverse)


def _gather_rows_bwd(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, np.ndarray, np.ndarray]:
    index, inverse = residuals
    parts = [jnp.where((column >= 0)[:, None], gradient[column], 0) for column in inverse.T]
    return functools.reduce(jnp.add, parts), _no_gradient(index), _no_gradient(inverse)


gather_rows.defvjp(_gather_rows_fwd, _gather_rows_bwd)


def experts_ffn(
    x: jax.Array,
    chosen: jax.Array,
    gates: jax.Array,
    experts: Experts,
    owned: Owned,
    blocks: Blocks,
    *,
    hidden_dropout: jax.Array | None = None,
    output_dropout: float = 0.0,
    rng: jax.Array | None = None,
) -> jax.Array:
    """Σ_k gates[n,k] · expert_{chosen[n,k]}(x[n]) for x [N, D]; chosen and gates [N, K] → [N, D].

    A choice of E, one past the last expert, adds nothing. An expert of width 0 is the identity: it gives x itself,
    without dropout. With `rng`, hidden units drop with rate hidden_dropout [E] of their expert and outputs, before
    the gate, with `output_dropout` (SPEC 1.2.6).
    """
    tokens, choices = chosen.shape
    widths = jnp.asarray(owned.widths)
    owned = Owned(jnp.asarray(owned.starts), widths)
    plan = layout(chosen, widths, block_rows(tokens * choices, widths.shape[0]))
    rng_hidden, rng_output = (None, None) if rng is None else jax.random.split(rng)
    if not blocks.aligned:  # a last column block may reach past the table's end
        experts = experts._replace(
            w_in=jnp.pad(experts.w_in, ((0, blocks.columns), (0, 0))),
            b_in=jnp.pad(experts.b_in, (0, blocks.columns)),
            w_out=jnp.pad(experts.w_out, ((0, blocks.columns), (0, 0))),
        )
    row_token = jnp.where(plan.row_pair >= 0, plan.row_pair // choices, -1)
    sorted_x = gather_rows(x, row_token, plan.position)
    sorted_y = _block_ffn(blocks, sorted_x, experts, owned, plan, hidden_dropout, rng_hidden)
    y = gather_rows(sorted_y, plan.position.reshape(-1), plan.row_pair[:, None]).reshape(tokens, choices, -1)
    if rng_output is not None:
        y = dropout(y, output_dropout, rng_output)
    identity = jnp.append(widths == 0, False)[chosen]
    y = jnp.where(identity[..., None], x[:, None, :], y)
    return jnp.einsum("nk,nkd->nd", gates.astype(y.dtype), y)


def dense_ffn(
    x: jax.Array, experts: Experts, *, hidden_dropout: float = 0.0, output_dropout: float = 0.0, rng: jax.Array | None = None
) -> jax.Array:
    """The only expert of a layer applied to all of x [N, D] → [N, D]."""
    rng_hidden, rng_output = (None, None) if rng is None else jax.random.split(rng)
    hidden = jax.nn.relu(x @ experts.w_in.T + experts.b_in)
    return dropout(dropout(hidden, hidden_dropout, rng_hidden) @ experts.w_out + experts.b_out[0], output_dropout, rng_output)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _block_ffn(
    blocks: Blocks,
    x: jax.Array,
    experts: Experts,
    owned: Owned,
    plan: Layout,
    hidden_dropout: jax.Array | None,
    rng: jax.Array | None,
) -> jax.Array:
    """The experts on sorted rows x [P, D] → [P, D]; rows without a pair give values nobody reads."""
    return _block_ffn_fwd(blocks, x, experts, owned, plan, hidden_dropout, rng)[0]


def _block_ffn_fwd(blocks, x, experts, owned, plan, hidden_dropout, rng):
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
            if rng is not None and hidden_dropout is not None:
                key = jax.random.fold_in(rng, block * most_columns + j)
                part = part * keep_scale(key, hidden_dropout[expert], part.shape).astype(part.dtype)
            hidden = jax.lax.dynamic_update_slice(hidden, part, (block * rows, j * columns))
            return hidden, total + _matmul(part, _block(experts.w_out, unit, columns))

        total = jnp.broadcast_to(experts.b_out[expert].astype(jnp.float32), x_block.shape)
        hidden, total = jax.lax.fori_loop(0, _columns_of(owned.widths[expert], columns), column, (hidden, total))
        return hidden, jax.lax.dynamic_update_slice_in_dim(y, total.astype(y.dtype), block * rows, 0)

    hidden = jnp.zeros((x.shape[0], wide), x.dtype)
    hidden, y = jax.lax.fori_loop(0, plan.blocks, row_block, (hidden, jnp.zeros_like(x)))
    return y, (x, hidden, experts, owned, plan, hidden_dropout, rng)


def _block_ffn_bwd(blocks, residuals, dy):
    x, hidden, experts, owned, plan, hidden_dropout, rng = residuals
    rows, columns = x.shape[0] // plan.block_expert.shape[0], blocks.columns

    def row_block(block, carry):
        dx, d_experts = carry
        expert = plan.block_expert[block]
        x_block, dy_block = (_block(array, block * rows, rows) for array in (x, dy))
        scale = 1.0 if rng is None or hidden_dropout is None else kept_scale(hidden_dropout[expert])

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
    dx, d_experts = jax.lax.fori_loop(0, plan.blocks, row_block, (jnp.zeros_like(x), zeros))
    d_experts = jax.tree.map(lambda gradient, weight: gradient.astype(weight.dtype), d_experts, experts)
    d_dropout = None if hidden_dropout is None else jnp.zeros_like(hidden_dropout)
    return dx, d_experts, *jax.tree.map(_no_gradient, (owned, plan)), d_dropout, jax.tree.map(_no_gradient, rng)


_block_ffn.defvjp(_block_ffn_fwd, _block_ffn_bwd)


def _columns_of(width: jax.Array, columns: int) -> jax.Array:
    """How many column blocks an expert of this width has."""
    return -(-jnp.maximum(width, 0) // columns)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a · b summed in float32 whatever the inputs are."""
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _no_gradient(x: jax.Array) -> np.ndarray:
    """The cotangent of an integer or key argument."""
    return np.zeros(jnp.shape(x), jax.dtypes.float0)


def _block(x: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """x[start : start + size] for a traced start."""
    return jax.lax.dynamic_slice_in_dim(x, start, size)


def _add_block(x: jax.Array, start: jax.Array, part: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(x, _block(x, start, part.shape[0]) + part, start, 0)
