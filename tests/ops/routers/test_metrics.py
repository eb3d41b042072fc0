"""The load's metrics on three tokens and three experts, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.ops.routers import Routing, no_metrics, router_metrics
from automoe_jax.ops.routers.top_k import route_top_k

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.3, 0.4, 0.3]], np.float32)
ALL = jnp.ones(3, bool)
FIRST_TWO = jnp.array([True, True, False])


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
