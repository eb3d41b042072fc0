"""Random routes: even, inside the active experts, and determined by the words."""

import jax.numpy as jnp
import numpy as np

from automoe_jax.ops.routers.random import route_at_random, route_to_all

ALL = jnp.ones(3, bool)
FIRST_TWO = jnp.array([True, True, False])


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
