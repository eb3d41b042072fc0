"""The router on three tokens and three experts, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.ops.routing import RouterMetrics, Routing, no_metrics, route_top_k, router_metrics

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.3, 0.4, 0.3]], np.float32)
LOGITS = jnp.log(PROBABILITIES)
ALL = jnp.ones(3, bool)
FIRST_TWO = jnp.array([True, True, False])


def test_one_choice():
    routing = route_top_k(LOGITS, ALL, 1, 1)
    np.testing.assert_array_equal(routing.chosen, [[0], [2], [1]])
    np.testing.assert_allclose(routing.gates, [[0.5], [0.6], [0.4]], rtol=1e-6)
    np.testing.assert_allclose(routing.probabilities, PROBABILITIES, rtol=1e-6)


def test_two_choices_keep_raw_probabilities():
    routing = route_top_k(LOGITS, ALL, 2, 2)
    np.testing.assert_array_equal(routing.chosen, [[0, 1], [2, 1], [1, 0]])  # the last token's tie goes to the first
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
    np.testing.assert_allclose(routing.probabilities, [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], atol=1e-7)


def test_more_choices_than_experts_are_all_of_them():
    routing = route_top_k(LOGITS, ALL, 5, 5)
    np.testing.assert_array_equal(routing.chosen, [[0, 1, 2], [2, 1, 0], [1, 0, 2]])


def test_one_expert_has_gate_one():
    routing = route_top_k(LOGITS[:, :1], ALL[:1], 1, 1)
    np.testing.assert_array_equal(routing.chosen, 0)
    np.testing.assert_array_equal(routing.gates, 1)


def test_gradient_of_gates_is_softmax_over_the_active():
    jacobian = jax.jacobian(lambda logits: route_top_k(logits[None], FIRST_TWO, 1, 2).gates[0])(LOGITS[0])
    p = 0.5 / 0.8
    np.testing.assert_allclose(jacobian, [[p * (1 - p), -p * (1 - p), 0], [0, 0, 0]], atol=1e-6)


def test_one_compilation_for_any_active_experts():
    run = jax.jit(lambda active: route_top_k(LOGITS, active, 1, 1).chosen[:, 0])
    np.testing.assert_array_equal(run(FIRST_TWO), [0, 1, 1])
    np.testing.assert_array_equal(run(jnp.array([True, False, False])), [0, 0, 0])
    assert run._cache_size() == 1


def metrics(chosen, probabilities, active=ALL, counted=(True, True, True)):
    chosen = jnp.asarray(chosen)
    routing = Routing(chosen, jnp.ones(chosen.shape), jnp.asarray(probabilities, jnp.float32))
    return router_metrics(routing, active, jnp.asarray(counted))


def close(found, **expected):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-6, err_msg=name)


def test_even_load():
    close(metrics([[0], [1], [2]], np.full((3, 3), 1 / 3)), routed=1, balance_loss=1, entropy=1, dead=0)


def test_even_load_of_two_active():
    half = np.array([[0.5, 0.5, 0]] * 3)
    close(metrics([[0, 1], [1, 0], [0, 1]], half, FIRST_TWO), routed=1, balance_loss=1, entropy=1, dead=0)


def test_collapsed_load():
    close(metrics([[1], [1], [1]], [[0, 1, 0]] * 3), routed=1, balance_loss=3, entropy=0, dead=2 / 3)


def test_uneven_load():
    share = np.array([2 / 3, 1 / 3, 0])
    entropy = -(share[:2] * np.log(share[:2])).sum() / np.log(3)
    balance = 3 * (share * PROBABILITIES.mean(0)).sum()
    close(metrics([[0], [0], [1]], PROBABILITIES), balance_loss=balance, entropy=entropy, dead=1 / 3)


def test_pads_are_not_counted():
    found = metrics([[0], [1], [2]], PROBABILITIES, counted=(True, True, False))
    balance = 3 * (np.array([0.5, 0.5, 0]) * PROBABILITIES[:2].mean(0)).sum()
    close(found, balance_loss=balance, entropy=np.log(2) / np.log(3), dead=1 / 3)


def test_choices_not_made_are_not_counted():
    close(metrics([[0, 3], [1, 3], [2, 3]], np.full((3, 3), 1 / 3)), balance_loss=1, entropy=1, dead=0)


def test_pads_only_give_numbers():
    assert all(np.isfinite(value) for value in metrics([[0], [1], [2]], PROBABILITIES, counted=(False, False, False)))


def test_one_active_expert_does_not_route():
    close(metrics([[0], [0], [0]], [[1, 0, 0]] * 3, jnp.array([True, False, False])), routed=0, balance_loss=0, entropy=0, dead=0)
    assert no_metrics() == RouterMetrics(0, 0, 0, 0)


def test_balance_loss_moves_the_router_away_from_the_crowded_expert():
    def loss(logits):
        return router_metrics(route_top_k(logits, ALL, 1, 1), ALL, jnp.ones(3, bool)).balance_loss

    gradient = jax.grad(loss)(jnp.array([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    assert np.all(gradient[:, 0] > 0)
    assert np.all(gradient[:, 2] < 0)
