"""Weights laid out for products of few rows: the same numbers, and only where it pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.ops.columns import BYTES, ROWS, by_columns


def test_products_are_the_same() -> None:
    """In a loop, as decoding uses it."""
    rng = np.random.default_rng(0)
    weight, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((24, 16), (5, 24)))

    def steps(x: jax.Array, weight: jax.Array) -> jax.Array:
        weight = by_columns(weight, len(x))
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ weight) @ weight.T, x)

    expected = np.asarray(x)
    for _ in range(3):
        expected = np.tanh(expected @ weight) @ np.asarray(weight).T
    np.testing.assert_allclose(jax.jit(steps)(x, weight), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "shape"), [(ROWS + 1, (24, 16)), (1, (BYTES // 4 // 16 + 1, 16))], ids=["rows", "size"]
)
def test_others_stay_as_they_are(rows: int, shape: tuple[int, int]) -> None:
    """Many rows, and matrices from beyond the cache."""
    weight = jnp.zeros(shape)
    assert by_columns(weight, rows) is weight
