"""The chunked cross entropy equals the one over all logits, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.ops import vocabulary
from automoe_jax.ops.vocabulary import label_smoothed, project, projected_cross_entropy
from tests.oracles import quick_jit

B, T, D, V = 3, 10, 8, 29


def inputs():
    rng = np.random.default_rng(0)
    hidden, table = rng.normal(size=(B, T, D)), rng.normal(size=(V, D))
    target, real = rng.integers(0, V, (B, T)), rng.integers(0, 2, (B, T))
    return (
        jnp.asarray(hidden, jnp.float32),
        jnp.asarray(table, jnp.float32),
        jnp.asarray(target),
        jnp.asarray(real, jnp.float32),
    )


@pytest.mark.parametrize("positions", [1, 3, 10])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_the_unchunked_loss(monkeypatch, positions, smoothing):
    """10 positions in chunks of at most `positions`: of 1, of 2 (a divisor of 10) and of all."""
    monkeypatch.setattr(vocabulary, "CHUNK_BYTES", positions * B * V * 4)
    hidden, table, target, real = inputs()

    def whole(hidden, table):
        return label_smoothed(project(hidden, table), target, real, smoothing)

    def chunked(hidden, table):
        return projected_cross_entropy(hidden, table, target, real, smoothing)

    np.testing.assert_allclose(
        quick_jit(chunked)(hidden, table), quick_jit(whole)(hidden, table), rtol=1e-5
    )
    scaled = [
        quick_jit(jax.grad(lambda *args, f=f: 3 * f(*args).loss, argnums=(0, 1)))
        for f in (chunked, whole)
    ]
    for ours, theirs in zip(*(gradient(hidden, table) for gradient in scaled), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_logits_are_never_held_all_at_once(monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK_BYTES", 2 * B * V * 4)
    hidden, table, target, real = inputs()
    gradient = jax.grad(
        lambda hidden, table: projected_cross_entropy(hidden, table, target, real, 0.1).loss,
        argnums=(0, 1),
    )
    assert f"{B},{T},{V}]" not in str(jax.make_jaxpr(gradient)(hidden, table))


def test_bfloat16_sums_in_float32():
    hidden, table, target, real = inputs()
    loss = quick_jit(lambda hidden: projected_cross_entropy(hidden, table, target, real, 0.1).loss)
    assert loss(hidden.astype(jnp.bfloat16)).dtype == jnp.float32
    np.testing.assert_allclose(loss(hidden.astype(jnp.bfloat16)), loss(hidden), rtol=2e-2)
