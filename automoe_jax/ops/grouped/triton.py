"""NVIDIA: grouped products as Pallas kernels for Triton.

A block of rows has one expert, so a program multiplies one block by one strip of that expert's
matrix, or returns at once if the block is not live; sums over an expert's rows use one program per
tile of its matrix.

Tested: values and gradients interpreted, lowering on a CPU, and compilation of the result for
compute capability 8.0 and 9.0 (Triton 3.9). Not run on a GPU; sizes are not tuned.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Float32

from automoe_jax.ops.grouped import padded
from automoe_jax.ops.grouped.strips import Groups, Products

MOST_TILE = 64
LEAST_TILE = 16  # of a product on tensor cores


def products(interpret: bool = False) -> Products:
    """The grouped products; interpreted, they run on any platform, slowly."""
    return Products(
        functools.partial(_up, interpret=interpret),
        functools.partial(_down, interpret=interpret),
        functools.partial(_outer, interpret=interpret),
    )


def _up(
    x: Float[Array, "P D"], w: Float[Array, "E F D"], groups: Groups, interpret: bool
) -> Float[Array, "P F"]:
    """x [P, D], w [E, F, D] → [P, F] in x's type."""
    if not _has_tiles(x, w, groups):
        return padded.up(x, w, groups)
    return _multiply(
        x, w, groups, jax.ShapeDtypeStruct((x.shape[0], w.shape[1]), x.dtype), True, interpret
    )


def _down(
    h: Float[Array, "P F"], w: Float[Array, "E F D"], groups: Groups, interpret: bool
) -> Float32[Array, "P D"]:
    """h [P, F], w [E, F, D] → float32 [P, D]."""
    if not _has_tiles(h, w, groups):
        return padded.down(h, w, groups)
    return _multiply(
        h, w, groups, jax.ShapeDtypeStruct((h.shape[0], w.shape[2]), jnp.float32), False, interpret
    )


def _outer(
    h: Float[Array, "P F"], x: Float[Array, "P D"], groups: Groups, interpret: bool
) -> Float32[Array, "E F D"]:
    """h [P, F], x [P, D] → float32 [E, F, D], the sum over an expert's live rows."""
    if not _has_tiles(h, x, groups):
        return padded.outer(h, x, groups)
    rows, experts = h.shape[0] // groups.expert.shape[0], jnp.arange(groups.order.shape[0])
    # [E, B], a run of consecutive blocks in each row
    mine = (groups.expert[None] == experts[:, None]) & groups.live[None]
    first, count = jnp.argmax(mine, axis=1), jnp.sum(mine, axis=1, dtype=jnp.int32)
    tiles = _tile(h.shape[1]), _tile(x.shape[1])
    return pl.pallas_call(
        functools.partial(_outer_kernel, rows=rows),
        out_shape=jax.ShapeDtypeStruct((len(experts), h.shape[1], x.shape[1]), jnp.float32),
        grid=(len(experts), h.shape[1] // tiles[0], x.shape[1] // tiles[1]),
        in_specs=[
            pl.BlockSpec(first.shape, lambda e, i, j: (0,)),
            pl.BlockSpec(count.shape, lambda e, i, j: (0,)),
            pl.BlockSpec((h.shape[0], tiles[0]), lambda e, i, j: (0, i)),
            pl.BlockSpec((x.shape[0], tiles[1]), lambda e, i, j: (0, j)),
        ],
        out_specs=pl.BlockSpec((None, *tiles), lambda e, i, j: (e, i, j)),
        compiler_params=triton.CompilerParams(),
        interpret=interpret,
    )(first.astype(jnp.int32), count, h, x)


def _outer_kernel(first, count, h, x, out, *, rows):
    expert = pl.program_id(0)

    def add(block, total):
        here = pl.ds((first[expert] + block) * rows, rows)
        return total + triton.dot(h[here, :], x[here, :], trans_a=True)

    out[...] = jax.lax.fori_loop(0, count[expert], add, jnp.zeros(out.shape, jnp.float32))


def _multiply(
    x: jax.Array,
    w: jax.Array,
    groups: Groups,
    out: jax.ShapeDtypeStruct,
    transposed: bool,
    interpret: bool,
) -> jax.Array:
    """x [P, I] times w [E, I, O], or w [E, O, I] transposed → [P, O]."""
    blocks, tile = groups.expert.shape[0], _tile(out.shape[1])
    rows = x.shape[0] // blocks
    strip = (w.shape[0], tile, x.shape[1]) if transposed else (w.shape[0], x.shape[1], tile)
    return pl.pallas_call(
        functools.partial(_multiply_kernel, transposed=transposed, step=_tile(x.shape[1])),
        out_shape=out,
        grid=(blocks, out.shape[1] // tile),
        in_specs=[
            pl.BlockSpec((blocks,), lambda b, j: (0,)),
            pl.BlockSpec((blocks,), lambda b, j: (0,)),
            pl.BlockSpec((rows, x.shape[1]), lambda b, j: (b, 0)),
            pl.BlockSpec(
                strip, (lambda b, j: (0, j, 0)) if transposed else (lambda b, j: (0, 0, j))
            ),
        ],
        out_specs=pl.BlockSpec((rows, tile), lambda b, j: (b, j)),
        compiler_params=triton.CompilerParams(),
        interpret=interpret,
    )(groups.expert, groups.live.astype(jnp.int32), x, w)


def _multiply_kernel(expert, live, x, w, out, *, transposed, step):
    block = pl.program_id(0)

    @pl.when(live[block] > 0)
    def _():
        mine = expert[block]

        def add(i, total):
            inner = pl.ds(i * step, step)
            strip = w[mine, :, inner] if transposed else w[mine, inner, :]
            return total + triton.dot(x[:, inner], strip, trans_b=transposed)

        total = jax.lax.fori_loop(0, x.shape[1] // step, add, jnp.zeros(out.shape, jnp.float32))
        out[...] = total.astype(out.dtype)


def _tile(size: int) -> int:
    """The largest power of two that divides the size, up to a limit: Triton supports no other
    shapes.
    """
    return min(size & -size, MOST_TILE)


def _has_tiles(a: jax.Array, b: jax.Array, groups: Groups) -> bool:
    sizes = (a.shape[0] // groups.expert.shape[0], a.shape[-1], *b.shape[1:])
    return all(_tile(size) >= LEAST_TILE for size in sizes)
