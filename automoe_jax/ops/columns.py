"""Memory layout of the weights in the decoding of one sentence.

Axes: U rows of a weight matrix · D its columns.
"""

import jax
from jaxtyping import Array, Float

ROWS = 8  # most rows of the other factor
BYTES = 2 << 20  # of the matrix: fits a core's second-level cache


def by_columns(weight: Float[Array, "U D"], rows: int) -> Float[Array, "U D"]:
    """weight [U, D], stored by columns if a CPU then multiplies x [rows, D] by its transpose
    faster.

    The library packs a transposed matrix in every product. With 5 rows and [4000, 128] or smaller,
    storage by columns takes half to two thirds of the time; with many rows, or a matrix larger than
    the cache, it takes longer. The copy costs about one such product, so it pays off if the result
    is used in many steps.
    """
    if jax.default_backend() != "cpu" or rows > ROWS or weight.nbytes > BYTES:
        return weight
    return jax.lax.optimization_barrier(weight.T).T
