"""Weights mixed by the architecture against a network with the hand-mixed weights; equal sets are
no mixture.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.arch import SIDES, Arch
from automoe_jax.extract import extract
from automoe_jax.model import Network, Spec, forward
from automoe_jax.model.mixture import NAME
from automoe_jax.model.network import initialised
from automoe_jax.space import SearchSpace
from tests.model.test_skips import ARCHS as SKIPPED
from tests.model.test_skips import SKIPPING
from tests.model.test_supernet import BATCH, VOCAB
from tests.oracles import SPACE, quick_jit

SETS = 3
PLAIN, MIXED = (Spec(SPACE, VOCAB, weight_sets=sets) for sets in (1, SETS))
ARCHS = [SPACE.largest(), SPACE.smallest(), SPACE.sample(np.random.default_rng(1))]
# of a space, the first two with different genes in the encoder's first layer
CASES = {
    "all blocks": (SPACE, ARCHS),
    "skipped blocks": (SKIPPING, [SKIPPING.largest(), SKIPPED["attention"], SKIPPED["FFN"]]),
}
logits = quick_jit(forward)


def apart(params: dict) -> dict:
    """Parameters whose sets differ."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noisy = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def mixed_by_hand(space: SearchSpace, params: dict, arch: Arch) -> dict:
    """Every layer's sets summed with their shares, in NumPy."""
    params = jax.tree.map(np.asarray, params)
    out = {name: part for name, part in params.items() if name not in SIDES}
    for side in SIDES:
        out[side] = {}
        for name, layer in params[side].items():
            i = int(name.removeprefix("layer_"))
            experts = layer["experts"]["b_out"].shape[1]
            most_cross = max(space.decoder_cross_heads)
            heads = getattr(arch, f"{side}_self_heads")[i]
            cross = arch.decoder_cross_heads[i]
            genes = [
                1,
                heads / max(getattr(space, f"{side}_self_heads")),
                cross / most_cross if side == "decoder" else cross,
                getattr(arch, f"{side}_top_k")[i] / max(space.top_k),
            ]
            widths = np.maximum(getattr(arch, f"{side}_ffn_dims")[i][:experts], 0)
            scores = np.array([*genes, *(widths / space.super_ffn_dim)]) @ layer[NAME]["kernel"]
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            sets = {key: part for key, part in layer.items() if key != NAME}
            out[side][name] = jax.tree.map(
                lambda array, shares=shares: np.tensordot(shares, array, 1).astype(np.float32), sets
            )
    return out


@pytest.mark.parametrize("name", CASES)
def test_computes_with_the_mixture_and_is_extracted_with_it(name: str) -> None:
    space, archs = CASES[name]
    plain, sets = (Spec(space, VOCAB, weight_sets=count) for count in (1, SETS))
    network = Network(apart(initialised(sets, jax.random.key(0)).params), sets)
    different = []
    for arch in archs:
        by_hand = Network(mixed_by_hand(space, network.params, arch), plain)
        expected = logits(by_hand, arch, *BATCH)
        np.testing.assert_allclose(logits(network, arch, *BATCH), expected, atol=2e-5)
        small = extract(network, arch)
        assert small.spec == Spec(space, VOCAB, arch=arch)
        np.testing.assert_allclose(logits(small, arch, *BATCH), expected, atol=2e-5)
        different.append(by_hand.params["encoder"]["layer_0"]["experts"]["w_in"])
    assert np.abs(different[0] - different[1]).max() > 0.01, "weights depend on the genes"


def test_equal_sets_are_one_set_in_values_and_gradients() -> None:
    network = initialised(MIXED, jax.random.key(0))
    first = {
        side: {
            name: jax.tree.map(lambda x: x[0], {k: v for k, v in layer.items() if k != NAME})
            for name, layer in network.params[side].items()
        }
        for side in SIDES
    }
    plain = Network(network.params | first, PLAIN)
    arch = ARCHS[2]

    def total(network: Network) -> jax.Array:
        return jnp.sum(jnp.sin(forward(network, arch, *BATCH)))

    (value, gradient), (expected, reference) = (
        quick_jit(jax.value_and_grad(total))(one) for one in (network, plain)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for side in SIDES:
        for name, layer in gradient.params[side].items():
            np.testing.assert_allclose(layer.pop(NAME)["kernel"], 0, atol=1e-3)
            sums = jax.tree.map(lambda array: array.sum(0), layer)
            jax.tree.map(
                lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-3),
                sums,
                reference.params[side][name],
            )
