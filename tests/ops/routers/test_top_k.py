"""The K most probable experts of three tokens and three experts, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.ops.routers.top_k import gates_of_one, jittered, route_top_k

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.3, 0.4, 0.3]], np.float32)
LOGITS = jnp.log(PROBABILITIES)
ALL = jnp.ones(3, bool)
FIRST_TWO = jnp.array([True, True, False])


def test_jitter_is_even_around_one() -> None:
    x = jnp.array([[2.0] * 5000, [-1.0] * 5000])
    factors = np.asarray(jittered(x, 0.1, jax.random.key(0)) / x)
    assert 0.9 <= factors.min() < 0.901
    assert 1.099 < factors.max() <= 1.1
    np.testing.assert_allclose(
        np.quantile(factors, [0.25, 0.5, 0.75], axis=1),
        [[0.95] * 2, [1.0] * 2, [1.05] * 2],
        atol=0.005,
    )
    assert np.abs(np.corrcoef(factors)[0, 1]) < 0.05
    assert np.abs(factors - jittered(x, 0.1, jax.random.key(1)) / x).max() > 0.1


def test_one_choice():
    routing = route_top_k(LOGITS, ALL, 1, 1)
    np.testing.assert_array_equal(routing.chosen, [[0], [2], [1]])
    np.testing.assert_allclose(routing.gates, [[0.5], [0.6], [0.4]], rtol=1e-6)
    np.testing.assert_allclose(routing.probabilities, PROBABILITIES, rtol=1e-6)


def test_two_choices_keep_raw_probabilities():
    routing = route_top_k(LOGITS, ALL, 2, 2)
    # the last token's tie goes to the first
    np.testing.assert_array_equal(routing.chosen, [[0, 1], [2, 1], [1, 0]])
    np.testing.assert_allclose(routing.gates, [[0.5, 0.3], [0.6, 0.3], [0.4, 0.3]], rtol=1e-6)


def test_traced_top_k_leaves_choices_unmade():
    run = jax.jit(lambda top_k: route_top_k(LOGITS, ALL, top_k, 2))
    routing = run(1)
    np.testing.assert_array_equal(routing.chosen, [[0, 3], [2, 3], [1, 3]])
    np.testing.assert_allclose(routing.gates, [[0.5, 0], [0.6, 0], [0.4, 0]], rtol=1e-6)
    for one, other in zip(run(2), route_top_k(LOGITS, ALL, 2, 2), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert run._cache_size() == 1


@pytest.mark.parametrize("most", [1, 2, 3])
def test_ties_go_to_the_first(most):
    routing = route_top_k(jnp.zeros((3, 3)), ALL, most, most)
    np.testing.assert_array_equal(routing.chosen, [list(range(most))] * 3)
    np.testing.assert_allclose(routing.gates, 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("most", [1, 2])
def test_inactive_experts_are_never_chosen(most):
    """Even where an active one's probability is 0 in float32."""
    logits = jnp.array([[0.0, -500.0, 900.0], [-500.0, 0.0, 900.0], [0.0, 0.0, 900.0]])
    routing = route_top_k(logits, FIRST_TWO, most, most)
    assert not np.any(routing.chosen == 2)
    np.testing.assert_array_equal(routing.chosen[:, 0], [0, 1, 0])
    np.testing.assert_allclose(
        routing.probabilities, [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], atol=1e-7
    )


def test_more_choices_than_experts_are_all_of_them():
    routing = route_top_k(LOGITS, ALL, 5, 5)
    np.testing.assert_array_equal(routing.chosen, [[0, 1, 2], [2, 1, 0], [1, 0, 2]])


def test_one_expert_has_gate_one():
    routing = route_top_k(LOGITS[:, :1], ALL[:1], 1, 1)
    np.testing.assert_array_equal(routing.chosen, 0)
    np.testing.assert_array_equal(routing.gates, 1)


def test_gradient_of_gates_is_softmax_over_the_active():
    jacobian = jax.jacobian(lambda logits: route_top_k(logits[None], FIRST_TWO, 1, 2).gates[0])(
        LOGITS[0]
    )
    p = 0.5 / 0.8
    np.testing.assert_allclose(jacobian, [[p * (1 - p), -p * (1 - p), 0], [0, 0, 0]], atol=1e-6)


def test_one_compilation_for_any_active_experts():
    run = jax.jit(lambda active: route_top_k(LOGITS, active, 1, 1).chosen[:, 0])
    np.testing.assert_array_equal(run(FIRST_TWO), [0, 1, 1])
    np.testing.assert_array_equal(run(jnp.array([True, False, False])), [0, 0, 0])
    assert run._cache_size() == 1


def test_gates_of_one_have_the_gradient_of_p_over_stopped_p() -> None:
    logits = jnp.array([[0.3, -1.0, 2.0], [1.0, 0.0, -2.0]])
    active = jnp.array([True, True, False])

    def gates(logits: jax.Array) -> jax.Array:
        return gates_of_one(route_top_k(logits, active, 1, 2)).gates

    np.testing.assert_array_equal(gates(logits), [[1.0, 0.0], [1.0, 0.0]])
    gradient = jax.jacobian(lambda logits: gates(logits)[:, 0].sum())(logits)
    probabilities = jax.nn.softmax(logits[:, :2])
    # d log p_0 / d logits
    expected = np.array([[1.0, 0.0], [1.0, 0.0]]) - probabilities
    np.testing.assert_allclose(gradient[:, :2], expected, atol=1e-6)
    np.testing.assert_array_equal(gradient[:, 2], [0.0, 0.0])
