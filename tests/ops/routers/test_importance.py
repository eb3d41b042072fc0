"""Three tokens of different importance and three experts, by hand."""

import jax.numpy as jnp
import numpy as np

from automoe_jax.ops.routers.importance import route_by_importance

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.3, 0.4, 0.3]], np.float32)
LOGITS = jnp.log(PROBABILITIES)
ALL = jnp.ones(3, bool)
FIRST_TWO = jnp.array([True, True, False])


def test_tokens_get_the_experts_their_importance_deserves():
    """⌈0.2 · 3⌉ = 1, ⌈0.34 · 3⌉ = 2, ⌈1 · 3⌉ = 3, with gates that add up to 1."""
    routing = route_by_importance(LOGITS, ALL, jnp.array([0.2, 0.34, 1.0]), jnp.ones(3, bool))
    np.testing.assert_array_equal(routing.chosen, [[0, 3, 3], [2, 1, 3], [1, 0, 2]])
    np.testing.assert_allclose(
        routing.gates, [[1, 0, 0], [0.6 / 0.9, 0.3 / 0.9, 0], [0.4, 0.3, 0.3]], rtol=1e-6
    )
    raw = route_by_importance(
        LOGITS, ALL, jnp.array([0.2, 0.34, 1.0]), jnp.ones(3, bool), renormalise=False
    )
    np.testing.assert_allclose(raw.gates, [[0.5, 0, 0], [0.6, 0.3, 0], [0.4, 0.3, 0.3]], rtol=1e-6)


def test_importance_counts_the_active_experts_and_at_least_one():
    importance = jnp.array([0.0, 0.5, 1.0])
    routing = route_by_importance(LOGITS, FIRST_TWO, importance, jnp.ones(3, bool))
    np.testing.assert_array_equal((routing.chosen < 3).sum(1), [1, 1, 2])
    assert not np.any(routing.chosen == 2)


def test_rounding_does_not_change_how_many_experts_a_token_gets():
    third = jnp.array([1 / 3, 1 / 3 + 1e-6, 1 / 3 - 1e-6])
    routing = route_by_importance(LOGITS, ALL, third, jnp.ones(3, bool))
    np.testing.assert_array_equal((routing.chosen < 3).sum(1), 1)


def test_pads_get_no_expert_by_importance():
    routing = route_by_importance(LOGITS, ALL, jnp.ones(3), jnp.array([True, False, True]))
    np.testing.assert_array_equal((routing.chosen < 3).sum(1), [3, 0, 3])
    assert np.all(np.isfinite(routing.gates))
