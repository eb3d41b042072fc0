"""Experts with a bounded number of tokens, against the plain loop over the choices that find a
place.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.ops.grouped import ExpertDropout, Experts
from automoe_jax.ops.grouped.capacity import capacity_ffn, capacity_of, within_capacity
from tests.oracles import experts_loop, quick_jit, routing

N, D, E, F = 20, 6, 3, 5
RNG = np.random.default_rng(0)
STARTS, WIDTHS = (0, 5, 10), (5, 5, 5)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


X, GATES, COTANGENT = normal(N, D), jnp.asarray(RNG.random((N, 2)), jnp.float32), normal(N, D)
EXPERTS = Experts(normal(E * F, D), normal(E * F), normal(E * F, D), normal(E, D))
CHOSEN = RNG.integers(0, E, (N, 2)).astype(np.int32)
# some second choices are not made
CHOSEN[:, 1] = np.where(RNG.random(N) < 0.3, E, (CHOSEN[:, 0] + 1) % E)
COUNTED = RNG.random(N) < 0.8


@functools.partial(quick_jit, static_argnums=0)
def run(factor: float, x: Any, gates: Any, experts: Any) -> Any:
    """(y, which choices find a place) and, for dy = COTANGENT, the gradients."""
    y, pullback, kept = jax.vjp(
        lambda x, gates, experts: capacity_ffn(
            x, routing(CHOSEN, gates), jnp.asarray(COUNTED), experts, factor
        ),
        x,
        gates,
        experts,
        has_aux=True,
    )
    return (y, kept), pullback(COTANGENT)


def expected_places(factor: float) -> np.ndarray:
    made = (CHOSEN < E) & COUNTED[:, None]
    left = dict.fromkeys(range(E), int(np.ceil(factor * made.sum() / E)))
    kept = np.zeros((N, 2), bool)
    for n, k in np.ndindex(N, 2):
        expert = CHOSEN[n, k]
        if COUNTED[n] and expert < E and left[expert]:
            left[expert] -= 1
            kept[n, k] = True
    return kept


@pytest.mark.parametrize("factor", [0.3, 0.7, 3.0])
def test_equals_the_loop_over_what_finds_a_place(factor: float) -> None:
    (y, kept), found = run(factor, X, GATES, EXPERTS)
    places = expected_places(factor)
    np.testing.assert_array_equal(kept, places)
    assert kept.sum() < np.sum((CHOSEN < E) & COUNTED[:, None]) or factor == 3
    chosen = np.where(places, CHOSEN, E)
    expected, (dx, d_gates, d_experts) = experts_loop(
        X, GATES, EXPERTS, chosen, STARTS, WIDTHS, COTANGENT
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves((dx, d_gates, d_experts)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_dropout_keeps_the_mean_and_needs_a_key() -> None:
    arguments = (X, routing(CHOSEN, GATES), jnp.asarray(COUNTED), EXPERTS, 2.0)
    plain, _ = capacity_ffn(*arguments)
    np.testing.assert_allclose(plain, run(2.0, X, GATES, EXPERTS)[0][0], atol=1e-5)
    drawn = quick_jit(lambda key: capacity_ffn(*arguments, ExpertDropout(0.0, 0.5, key))[0])
    mean = np.mean([drawn(jax.random.key(seed)) for seed in range(400)], axis=0)
    spread = np.std([drawn(jax.random.key(seed)) for seed in range(400)], axis=0)
    assert spread.max() > 0.1
    assert np.all(np.abs(mean - plain) < 5 * spread / 20 + 1e-5)


@pytest.mark.parametrize(
    ("factor", "choices", "experts", "places"),
    [(1.25, 30, 4, 10), (1.25, 37, 4, 12), (1.0, 32, 4, 8), (1.1, 40, 4, 11), (1.0, 0, 4, 0)],
)
def test_room_of_an_expert(factor: float, choices: int, experts: int, places: int) -> None:
    assert capacity_of(factor, jnp.asarray(choices), experts) == places


def test_pads_make_no_room() -> None:
    """37 tokens of which 30 count, all for one of four experts: room for 10, not 12."""
    x, chosen, gates = normal(37, D), jnp.zeros((37, 1), jnp.int32), jnp.ones((37, 1))
    experts = Experts(normal(4 * F, D), normal(4 * F), normal(4 * F, D), normal(4, D))
    _, kept = capacity_ffn(x, routing(chosen, gates), jnp.arange(37) < 30, experts, 1.25)
    np.testing.assert_array_equal(kept[:, 0], np.arange(37) < 10)


def test_choices_that_are_not_made_make_no_room() -> None:
    """K = 1 in a network of up to two: the places are those of K = 1 alone."""
    x, gates = normal(32, D), jnp.ones((32, 2))
    experts = Experts(normal(4 * F, D), normal(4 * F), normal(4 * F, D), normal(4, D))
    chosen = jnp.asarray([[0, 4]] * 32)
    _, kept = capacity_ffn(x, routing(chosen, gates), jnp.ones(32, bool), experts, 1.0)
    _, alone = capacity_ffn(
        x, routing(chosen[:, :1], gates[:, :1]), jnp.ones(32, bool), experts, 1.0
    )
    np.testing.assert_array_equal(kept[:, :1], alone)
    assert int(kept.sum()) == 8


def test_rounding_makes_no_place_beyond_the_arrays() -> None:
    """⌈1.2 · 5440 / 2⌉ is 3264 exactly and 3265 in float32; a token too many would take a place of
    the next expert.
    """
    x, chosen, gates = normal(5440, 2), jnp.zeros((5440, 1), jnp.int32), jnp.ones((5440, 1))
    experts = Experts(normal(4, 2), normal(4), normal(4, 2), normal(2, 2))
    _, kept = capacity_ffn(x, routing(chosen, gates), jnp.ones(5440, bool), experts, 1.2)
    np.testing.assert_array_equal(kept[:, 0], np.arange(5440) < 3264)


def test_places_are_taken_in_the_order_of_the_tokens():
    chosen = jnp.array([[0], [1], [0], [3], [0], [1]])
    np.testing.assert_array_equal(within_capacity(chosen, 3, 2)[:, 0], [0, 0, 1, -1, -1, 1])
