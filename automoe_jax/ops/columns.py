"""How the weights lie that a lone sentence's decoding multiplies with again and again.

Axes: U rows of a weight matrix · D its columns.
"""

import jax

ROWS = 8  # at most so many rows are multiplied
BYTES = 2 << 20  # of the matrix: what stays in a core's second-level cache


def by_columns(weight: jax.Array, rows: int) -> jax.Array:
    """weight [U, D], its numbers laid out column by column where a CPU multiplies x [rows, D] by
    its transpose faster so.

    A product of few rows is over before a transposed matrix is read in the wrong order: with [4000,
    128] or smaller and 5 rows it takes half to two thirds of the time; with many rows, or a matrix
    from beyond the cache, it takes longer. Moving the numbers costs about one such product, so it
    pays where the result is used in many steps.
    """
    if jax.default_backend() != "cpu" or rows > ROWS or weight.nbytes > BYTES:
        return weight
    return jax.lax.optimization_barrier(weight.T).T
