"""Attention against a loop over heads; traced heads against static ones; rows without keys; dropout
of wide heads.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.ops.attention import attention, split_heads, token_importance
from tests.oracles import quick_jit

B, T, S, Q, MOST = 2, 3, 5, 24, 12
DIVISORS = (1, 2, 3, 4, 6, 12)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    query, key, value = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((B, T, Q), (B, S, Q), (B, S, Q))
    )
    allowed = rng.random((B, 1, T, S)) < 0.7
    allowed[..., 0] = True
    return query, key, value, jnp.asarray(allowed)


def loop(query, key, value, allowed, heads):
    """float64, sentence by sentence and head by head."""
    query, key, value, allowed = (
        np.asarray(array, np.float64) for array in (query, key, value, allowed)
    )
    wide, out = Q // heads, np.zeros((B, T, Q))
    for b in range(B):
        for h in range(heads):
            part = slice(h * wide, (h + 1) * wide)
            scores = np.where(
                allowed[b, 0], query[b, :, part] @ key[b, :, part].T * wide**-0.5, -np.inf
            )
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            out[b, :, part] = weights / weights.sum(-1, keepdims=True) @ value[b, :, part]
    return out


def values_and_gradients(query, key, value, allowed, heads):
    """With `heads` static there are as many parts as heads."""
    static = isinstance(heads, int)
    parts = heads if static else MOST

    def run(query, key, value):
        memory = (split_heads(array, parts) for array in (key, value))
        return attention(query, *memory, allowed, heads=None if static else heads).mixed

    y, pullback = jax.vjp(run, query, key, value)
    return y, pullback(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))


traced = quick_jit(values_and_gradients)
static = quick_jit(values_and_gradients, static_argnums=4)


@pytest.mark.parametrize("heads", DIVISORS)
def test_static_and_traced_heads_equal_loop(heads):
    y, gradients = static(*inputs(), heads)
    np.testing.assert_allclose(y, loop(*inputs(), heads), atol=1e-5)
    y_traced, gradients_traced = traced(*inputs(), heads)
    np.testing.assert_allclose(y_traced, y, atol=1e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=2e-5), gradients_traced, gradients
    )


def test_traced_heads_compile_once():
    before = traced._cache_size()
    for heads in DIVISORS:
        traced(*inputs(), heads)
    assert traced._cache_size() <= before + 1


@pytest.mark.parametrize("run", [traced, static])
def test_row_without_any_key_gives_numbers(run):
    query, key, value, allowed = inputs()
    allowed = allowed.at[1, :, 2].set(False)
    y, gradients = run(query, key, value, allowed, 4)
    assert all(bool(jnp.isfinite(array).all()) for array in (y, *gradients))
    others = np.ones((B, T), bool)
    others[1, 2] = False
    np.testing.assert_allclose(y[others], run(*inputs(), 4)[0][others], atol=1e-6)


def test_masked_keys_do_not_matter():
    query, key, value, allowed = inputs()
    allowed = allowed.at[..., 3].set(False)
    y, (_, d_key, d_value) = traced(query, key, value, allowed, 3)
    changed, _ = traced(query, key.at[:, 3].set(100.0), value.at[:, 3].set(-100.0), allowed, 3)
    np.testing.assert_array_equal(y, changed)
    assert not np.any(d_key[:, 3])
    assert not np.any(d_value[:, 3])


def test_bfloat16_stays_near_float32():
    query, key, value, allowed = inputs()
    query_half, *memory = (array.astype(jnp.bfloat16) for array in (query, key, value))
    y = attention(query_half, *(split_heads(array, 4) for array in memory), allowed).mixed
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        y.astype(jnp.float32), loop(query, key, value, allowed, 4), atol=0.05
    )


# Dropout: equal scores, and values such that output s of each of the four parts is the weight of
# key s.

PARTS, KEYS, BATCH, RATE = 4, 6, 50, 0.3


def shown_weights(heads, seed=0):
    """[B,P,T,S] times S: 0 where dropped, 1 / (1 − rate) where kept."""
    shows = jnp.tile(jnp.eye(KEYS), (BATCH, 1, PARTS))
    query = jnp.zeros((BATCH, 4, PARTS * KEYS))
    everything = jnp.ones((1, 1, 1, KEYS), bool)
    memory = split_heads(shows, PARTS)
    mixed = attention(
        query, memory, memory, everything, heads=heads, dropout_rate=RATE, rng=jax.random.key(seed)
    ).mixed
    return np.asarray(mixed.reshape(BATCH, 4, PARTS, KEYS).transpose(0, 2, 1, 3)) * KEYS


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_parts_of_a_wide_head_drop_the_same_weights(heads):
    shown = shown_weights(jnp.asarray(heads))
    by_head = shown.reshape(BATCH, heads, PARTS // heads, 4, KEYS)
    np.testing.assert_array_equal(by_head, np.broadcast_to(by_head[:, :, :1], by_head.shape))
    for h in range(1, heads):
        assert np.mean(by_head[:, 0, 0] == by_head[:, h, 0]) < 0.7  # 0.58 by chance


@pytest.mark.parametrize("heads", [2, jnp.asarray(2)], ids=["static", "traced"])
def test_dropout_rate(heads):
    shown = shown_weights(heads)
    np.testing.assert_allclose(shown[shown != 0], 1 / (1 - RATE), rtol=1e-4)
    assert abs(np.mean(shown == 0) - RATE) < 0.04
    assert np.any(shown != shown_weights(heads, seed=1))


def test_importance_relative_to_the_sentence() -> None:
    """Two heads, three keys, the last query and key padding: worked out by hand."""
    weights = jnp.array([[[[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.0, 0.0, 1.0]]]] * 1)
    weights = jnp.concatenate([weights, weights[:, :, :, jnp.array([1, 0, 2])]], axis=1)
    counted = jnp.array([[True, True, False]])
    received = token_importance(weights, "received", counted)
    np.testing.assert_allclose(received, [[(0.8 + 0.3) / 2, (0.3 + 0.8) / 2, 0.2]], rtol=1e-6)
    relative = token_importance(weights, "relative_received", counted)
    np.testing.assert_allclose(relative, [[1.0, 1.0, 0.2 / 0.55]], rtol=1e-6)
    # The pad gives the most, but does not count.
    np.testing.assert_allclose(
        token_importance(weights, "relative_given", counted), [[1.0, 0.5 / 0.8, 1.0]], rtol=1e-6
    )


def test_relative_importance_of_a_sentence_without_tokens_is_a_number() -> None:
    weights = jnp.full((1, 1, 2, 2), 0.5)
    nothing = token_importance(weights, "relative_received", jnp.zeros((1, 2), bool))
    np.testing.assert_array_equal(nothing, [[0.0, 0.0]])
