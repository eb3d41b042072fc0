"""Weights in 8-bit integers: error, size, and use in translation."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.errors import UserError
from automoe_jax.inference.decode import beam_search
from automoe_jax.inference.quantise import OWN_SCALES, Int8, quantised, size, widened
from tests.oracles import SPACE, random_network

ARCH = SPACE.sample(np.random.default_rng(3))
NETWORK = random_network(SPACE, 24, arch=ARCH)


def test_every_matrix_but_the_routers_is_int8_with_a_scale_for_each_output():
    small = quantised(NETWORK)
    exact = dict(jax.tree_util.tree_leaves_with_path(NETWORK.params))
    found = dict(
        jax.tree_util.tree_leaves_with_path(
            small.params, is_leaf=lambda leaf: isinstance(leaf, Int8)
        )
    )
    assert found.keys() == exact.keys()
    for path, array in exact.items():
        leaf, name = found[path], path[-1].key
        matrix = (
            array.ndim > 1 and "router" not in name and not name.startswith("b_") and name != "bias"
        )
        assert isinstance(leaf, Int8) == matrix, path
        if not matrix:
            assert leaf is array
            continue
        assert leaf.values.dtype == jnp.int8
        assert leaf.values.shape == array.shape
        assert leaf.scales.shape == tuple(
            n if axis in OWN_SCALES[name] else 1 for axis, n in enumerate(array.shape)
        )
        shared = tuple(axis for axis in range(array.ndim) if axis not in OWN_SCALES[name])
        np.testing.assert_allclose(
            leaf.scales, np.abs(array).max(shared, keepdims=True) / 127, rtol=0.01
        )


def test_widened_is_within_half_a_step():
    small = quantised(NETWORK)
    for leaf, exact, back in zip(
        jax.tree.leaves(small.params, is_leaf=lambda leaf: isinstance(leaf, Int8)),
        jax.tree.leaves(NETWORK.params),
        jax.tree.leaves(widened(small).params),
        strict=True,
    ):
        step = leaf.scales if isinstance(leaf, Int8) else 0.0
        assert np.all(np.abs(exact - back) <= 0.51 * step)
        assert exact.dtype == back.dtype == jnp.float32
    assert size(small) < 0.6 * size(NETWORK)  # in matrices this narrow, the scales are a large part


def test_translating_with_int8_is_translating_with_the_rounded_weights():
    source = np.random.default_rng(0).integers(4, 24, (2, 5)).astype(np.int32)
    small = quantised(NETWORK)
    options = {"beam_size": 2, "max_length": 6}
    tokens, scores = beam_search(small, source, **options)
    expected, expected_scores = beam_search(widened(small), source, **options)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(
        UserError,
        match=r"int8 needs the library qwix; install it with pip install 'automoe-jax\[int8\]'",
    ):
        quantised(NETWORK)
