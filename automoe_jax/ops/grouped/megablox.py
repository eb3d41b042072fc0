"""TPU: megablox's grouped products, as JAX ships them.

They multiply groups of consecutive rows by one matrix each; rows after the last group are
undefined; all matrices of a call have the same width. The rows are therefore sorted by width,
widest expert first: the rows whose expert has a strip come first, and the groups of the other
experts are empty.

Tested: values and gradients interpreted, lowering on a CPU, and compilation for a TPU v5e without
one (libtpu 0.0.42). Not run on a TPU; tile sizes are not tuned.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.megablox.gmm import gmm, tgmm
from jaxtyping import Array, Float, Float32

from automoe_jax.ops.grouped.strips import Groups, Products

TILE_ROWS = 128
TILE_COLUMNS = 512  # or the whole dimension, if shorter


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
    w = w[groups.order]
    y = gmm(
        _whole_tiles(x),
        w,
        _group_sizes(x, groups),
        x.dtype,
        _tiling(x, w.shape[1]),
        transpose_rhs=True,
        interpret=interpret,
    )
    return y[: x.shape[0]]


def _down(
    h: Float[Array, "P F"], w: Float[Array, "E F D"], groups: Groups, interpret: bool
) -> Float32[Array, "P D"]:
    """h [P, F], w [E, F, D] → float32 [P, D]."""
    w = w[groups.order]
    y = gmm(
        _whole_tiles(h),
        w,
        _group_sizes(h, groups),
        jnp.float32,
        _tiling(h, w.shape[2]),
        interpret=interpret,
    )
    return y[: h.shape[0]]


def _outer(
    h: Float[Array, "P F"], x: Float[Array, "P D"], groups: Groups, interpret: bool
) -> Float32[Array, "E F D"]:
    """h [P, F], x [P, D] → float32 [E, F, D], the sum over an expert's live rows."""
    sizes, tiling = _group_sizes(h, groups), _tiling(h, x.shape[1])
    ranked = tgmm(
        _whole_tiles(h).T, _whole_tiles(x), sizes, jnp.float32, tiling, interpret=interpret
    )
    return ranked[jnp.argsort(groups.order)]


def _group_sizes(x: jax.Array, groups: Groups) -> jax.Array:
    """int32 [E] live rows of each expert, widest first."""
    rows = x.shape[0] // groups.expert.shape[0]
    blocks = jnp.sum(
        (groups.expert[:, None] == groups.order[None]) & groups.live[:, None],
        axis=0,
        dtype=jnp.int32,
    )
    return blocks * rows


def _whole_tiles(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, -x.shape[0] % TILE_ROWS), (0, 0)))


def _tiling(x: jax.Array, columns: int) -> tuple[int, int, int]:
    return TILE_ROWS, min(x.shape[1], TILE_COLUMNS), min(columns, TILE_COLUMNS)
