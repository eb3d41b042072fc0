"""Tokens sorted by expert into blocks of rows.

Axes: N tokens · K choices · E experts · P padded rows of the sorted tokens · R rows of a block.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

MAX_BLOCK_ROWS = 64
MIN_BLOCK_ROWS = 8


class BlockLayout(NamedTuple):
    """Positions of the (token, choice) pairs among the sorted rows."""

    row_pair: Int[Array, "P"]  # flat index n·K + k of the pair in each row, −1 in rows without one
    position: Int[Array, "N K"]  # row of each pair, −1 where no expert computes it
    block_expert: Int[Array, "blocks"]  # [P/R] expert of each block
    blocks: Int[Array, ""]  # number of existing blocks


def block_rows(pairs: int, experts: int) -> int:
    """R: large enough for efficient products, small enough that half-filled last blocks cost
    little; few rows form one block per expert.
    """
    rows = 1 << max(-(-pairs // experts) - 1, 1).bit_length()
    return min(max(rows, MIN_BLOCK_ROWS), MAX_BLOCK_ROWS)


def by_width(widths: Int[Array, "E"]) -> Int[Array, "E"]:
    """The experts [E], the widest first."""
    return jnp.argsort(-widths, stable=True)


def layout(
    chosen: Int[Array, "N K"],
    widths: Int[Array, "E"],
    rows: int,
    order: Int[Array, "E"] | None = None,
) -> BlockLayout:
    """Sorts the pairs chosen [N, K] by expert into blocks of `rows`; pairs without a computing
    expert get no row.

    widths [E]: an expert of width 0 (identity) or less (absent) computes nothing. The experts' rows
    are consecutive, in the given order [E] or in that of their numbers.
    """
    if order is not None:
        rank = jnp.append(jnp.argsort(order), order.shape[0])
        ranked = layout(rank[chosen], widths[order], rows)
        return ranked._replace(block_expert=order[ranked.block_expert])
    experts = widths.shape[0]
    flat = chosen.reshape(-1)
    pairs = flat.shape[0]
    computes = jnp.append(jnp.asarray(widths) > 0, False)
    expert = jnp.where(computes[flat], flat, experts)
    order = jnp.argsort(expert, stable=True)
    counts = jnp.sum(expert[:, None] == jnp.arange(experts + 1)[None], axis=0, dtype=jnp.int32)
    first = jnp.cumsum(counts) - counts
    blocks = -(-counts[:experts] // rows)
    last_block = jnp.cumsum(blocks)
    total_blocks = -(-pairs // rows) + experts
    row_of_first = jnp.append((last_block - blocks) * rows, 0)
    sorted_expert = expert[order]
    row = row_of_first[sorted_expert] + jnp.arange(pairs) - first[sorted_expert]
    row = jnp.where(sorted_expert < experts, row, total_blocks * rows)
    row_pair = (
        jnp.full((total_blocks * rows,), -1, jnp.int32)
        .at[row]
        .set(order.astype(jnp.int32), mode="drop")
    )
    position = jnp.zeros((pairs,), jnp.int32).at[order].set(row.astype(jnp.int32))
    position = jnp.where(position < total_blocks * rows, position, -1)
    block_expert = jnp.sum(
        jnp.arange(total_blocks)[:, None] >= last_block[None], axis=1, dtype=jnp.int32
    )
    return BlockLayout(
        row_pair,
        position.reshape(chosen.shape),
        jnp.minimum(block_expert, experts - 1),
        last_block[-1],
    )


@jax.custom_vjp
def gather_rows(
    x: Float[Array, "I D"], index: Int[Array, "O"], inverse: Int[Array, "I J"]
) -> Float[Array, "O D"]:
    """x [I, D], index [O] → [O, D], zero rows where the index is negative.

    `inverse` [I, J] lists the outputs each input row went to (−1: none), so that the gradient is a
    gather as well: scattering is many times slower on CPU.
    """
    return jnp.where((index >= 0)[:, None], x[index], 0)


def _gather_rows_fwd(
    x: jax.Array, index: jax.Array, inverse: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return gather_rows(x, index, inverse), (index, inverse)


def _gather_rows_bwd(
    residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, np.ndarray, np.ndarray]:
    index, inverse = residuals
    parts = [jnp.where((column >= 0)[:, None], gradient[column], 0) for column in inverse.T]
    return functools.reduce(jnp.add, parts), no_gradient(index), no_gradient(inverse)


gather_rows.defvjp(_gather_rows_fwd, _gather_rows_bwd)


def no_gradient(x: jax.Array) -> np.ndarray:
    """The cotangent of an integer or key argument."""
    return np.zeros(jnp.shape(x), jax.dtypes.float0)
