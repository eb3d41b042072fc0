"""The hashed bits are uniform and independent enough to drop with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.ops.dropout import dropout, keep_scale, random_bits, split

KEYS = [
    jax.random.key(seed, impl=impl) for impl in ("threefry2x32", "rbg") for seed in (0, 1, 12345)
]
SHAPE = (512, 256)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.0125])
@pytest.mark.parametrize("key", KEYS)
def test_rate_and_mean(key, rate):
    scale = np.asarray(keep_scale(key, rate, SHAPE))
    spread = (rate * (1 - rate) / scale.size) ** 0.5
    assert abs(np.mean(scale == 0) - rate) < 5 * spread
    np.testing.assert_allclose(scale[scale > 0], 1 / (1 - rate), rtol=1e-6)


@pytest.mark.parametrize("key", KEYS)
def test_every_bit_is_even_and_neighbours_are_independent(key):
    bits = np.asarray(random_bits(key, SHAPE))
    ones = np.unpackbits(bits.view(np.uint8)).reshape(*SHAPE, 32).astype(float)
    assert np.all(np.abs(ones.mean((0, 1)) - 0.5) < 5 * 0.5 / ones[..., 0].size ** 0.5)
    uniform = bits / 2**32 - 0.5
    for shift in ((0, 1), (1, 0), (1, 1), (0, 128)):
        assert abs(12 * np.mean(uniform * np.roll(uniform, shift, (0, 1)))) < 5 / uniform.size**0.5


def test_keys_differ_from_each_other():
    """Children of one key, children of its neighbour, and the bits drawn with each."""
    keys = jnp.concatenate([split(KEYS[3], 8), split(KEYS[4], 8)])
    draws = np.stack([np.asarray(random_bits(key, SHAPE)) / 2**32 - 0.5 for key in keys]).reshape(
        16, -1
    )
    correlation = 12 * draws @ draws.T / draws.shape[1]
    np.testing.assert_allclose(correlation, np.eye(16), atol=6 / draws.shape[1] ** 0.5)
    words = {tuple(word) for word in np.asarray(jax.random.key_data(keys)).tolist()}
    assert len(words) == 16


def test_first_goes_on_where_another_draw_stopped():
    whole = random_bits(KEYS[0], (6, 4))
    np.testing.assert_array_equal(random_bits(KEYS[0], (2, 4), first=jnp.int32(16)), whole[4:])


def test_nothing_happens_without_a_key_or_a_rate():
    x = jnp.ones((2, 3))
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, KEYS[0]) is x
