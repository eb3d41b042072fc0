"""The router on three tokens and three experts, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.ops.routing import (
    Routing,
    jittered,
    no_metrics,
    route_at_random,
    route_by_importance,
    route_to_all,
    route_top_k,
    router_metrics,
    within_capacity,
)

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


def metrics(chosen, probabilities, active=ALL, counted=(True, True, True)):
    chosen = jnp.asarray(chosen)
    routing = Routing(chosen, jnp.ones(chosen.shape), jnp.asarray(probabilities, jnp.float32))
    return router_metrics(routing, active, jnp.asarray(counted))


def close(found, **expected):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-6, err_msg=name)


def test_even_load():
    close(
        metrics([[0], [1], [2]], np.full((3, 3), 1 / 3)),
        routed=1,
        balance_loss=1,
        entropy=1,
        dead=0,
    )


def test_even_load_of_two_active():
    half = np.array([[0.5, 0.5, 0]] * 3)
    close(
        metrics([[0, 1], [1, 0], [0, 1]], half, FIRST_TWO),
        routed=1,
        balance_loss=1,
        entropy=1,
        dead=0,
    )


def test_collapsed_load():
    close(
        metrics([[1], [1], [1]], [[0, 1, 0]] * 3), routed=1, balance_loss=3, entropy=0, dead=2 / 3
    )


def test_uneven_load():
    share = np.array([2 / 3, 1 / 3, 0])
    entropy = -(share[:2] * np.log(share[:2])).sum() / np.log(3)
    balance = 3 * (share * PROBABILITIES.mean(0)).sum()
    close(
        metrics([[0], [0], [1]], PROBABILITIES), balance_loss=balance, entropy=entropy, dead=1 / 3
    )


def test_pads_are_not_counted():
    found = metrics([[0], [1], [2]], PROBABILITIES, counted=(True, True, False))
    balance = 3 * (np.array([0.5, 0.5, 0]) * PROBABILITIES[:2].mean(0)).sum()
    close(found, balance_loss=balance, entropy=np.log(2) / np.log(3), dead=1 / 3)


def test_choices_not_made_are_not_counted():
    close(
        metrics([[0, 3], [1, 3], [2, 3]], np.full((3, 3), 1 / 3)), balance_loss=1, entropy=1, dead=0
    )


def test_pads_only_give_numbers():
    assert all(
        np.all(np.isfinite(value))
        for value in metrics([[0], [1], [2]], PROBABILITIES, counted=(False, False, False))
    )


def test_one_active_expert_does_not_route():
    close(
        metrics([[0], [0], [0]], [[1, 0, 0]] * 3, jnp.array([True, False, False])),
        routed=0,
        balance_loss=0,
        entropy=0,
        dead=0,
    )
    assert all(not np.any(value) for value in no_metrics())


def test_balance_loss_moves_the_router_away_from_the_crowded_expert():
    def loss(logits):
        return router_metrics(route_top_k(logits, ALL, 1, 1), ALL, jnp.ones(3, bool)).balance_loss

    gradient = jax.grad(loss)(jnp.array([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    assert np.all(gradient[:, 0] > 0)
    assert np.all(gradient[:, 2] < 0)


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


def test_random_routes_are_even_and_depend_on_the_words():
    many = jnp.arange(9000, dtype=jnp.uint32)
    routing = route_at_random(many, [3, 1], ALL, 1, 1)
    counts = np.bincount(routing.chosen[:, 0], minlength=3)
    assert np.all(np.abs(counts - 3000) < 5 * np.sqrt(2000))
    np.testing.assert_array_equal(routing.gates, 1)
    other = route_at_random(many, [3, 2], ALL, 1, 1).chosen[:, 0]
    both = np.histogram2d(np.asarray(routing.chosen[:, 0]), np.asarray(other), bins=3)[0]
    assert np.all(np.abs(both - 1000) < 5 * np.sqrt(1000))


def test_random_routes_stay_with_the_active_experts_and_differ():
    many = jnp.arange(200, dtype=jnp.uint32)
    one = route_at_random(many, [0], FIRST_TWO, 1, 2)
    assert set(np.unique(one.chosen[:, 0])) == {0, 1}
    np.testing.assert_array_equal(one.chosen[:, 1], 3)
    two = route_at_random(many, [0], ALL, 2, 2)
    assert np.all(two.chosen[:, 0] != two.chosen[:, 1])
    np.testing.assert_array_equal(two.gates, 0.5)


def test_everyone_is_the_mean_of_the_active():
    routing = route_to_all(4, FIRST_TWO)
    np.testing.assert_array_equal(routing.chosen, [[0, 1, 3]] * 4)
    np.testing.assert_array_equal(routing.gates, [[0.5, 0.5, 0]] * 4)


def test_places_are_taken_in_the_order_of_the_tokens():
    chosen = jnp.array([[0], [1], [0], [3], [0], [1]])
    np.testing.assert_array_equal(within_capacity(chosen, 3, 2)[:, 0], [0, 0, 1, -1, -1, 1])


def test_share_of_the_tokens_with_each_number_of_experts():
    found = metrics(
        [[0, 1, 2], [1, 3, 3], [2, 3, 3], [0, 1, 3]],
        np.full((4, 3), 1 / 3),
        counted=(True, True, True, False),
    ).choices
    np.testing.assert_allclose(found[:4], [2 / 3, 0, 1 / 3, 0], atol=1e-6)


def test_z_loss_is_the_mean_square_of_log_z_over_the_active():
    logits = jnp.array([[1.0, 2.0, 50.0], [0.0, 0.0, 9.0], [7.0, 7.0, 7.0]])
    found = router_metrics(
        route_top_k(logits, FIRST_TWO, 1, 1), FIRST_TWO, jnp.array([True, True, False]), logits
    )
    log_z = [np.log(np.exp(1) + np.exp(2)), np.log(2)]
    np.testing.assert_allclose(found.z_loss, np.mean(np.square(log_z)), rtol=1e-5)
