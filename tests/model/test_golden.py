"""Forward pass and gradients against numbers of the original implementation."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.arch import Arch
from automoe_jax.convert import from_fairseq
from automoe_jax.errors import UserError
from automoe_jax.extract import extract
from automoe_jax.model import Network, forward
from automoe_jax.space import SearchSpace
from automoe_jax.train.loss import label_smoothed

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
META = json.loads((GOLDEN / "forward.json").read_text())
ARRAYS = np.load(GOLDEN / "forward.npz")
SUBNETS = {subnet["name"]: subnet for subnet in META["subnets"]}
WITH_GRADIENT = ("dense_mixed", "fractional_experts")
SOURCE, TARGET_INPUT, TARGET = (
    jnp.asarray(ARRAYS[f"batch/{name}"]) for name in ("src_tokens", "prev_output_tokens", "target")
)


def weights(prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): ARRAYS[name] for name in ARRAYS.files if name.startswith(prefix)
    }


def supernet(name: str) -> Network:
    space = SearchSpace(**META["supernets"][name]["space"])
    return from_fairseq(weights(f"weights/{name}/"), space=space)


jitted_forward = jax.jit(forward)


@pytest.mark.parametrize("name", SUBNETS)
@pytest.mark.parametrize("way", ["masked", "extracted"])
def test_logits(name: str, way: str) -> None:
    subnet = SUBNETS[name]
    network, arch = supernet(subnet["supernet"]), Arch.from_dict(subnet["arch"])
    logits = jitted_forward(
        extract(network, arch) if way == "extracted" else network, arch, SOURCE, TARGET_INPUT
    )
    np.testing.assert_allclose(logits, ARRAYS[f"subnets/{name}/logits_f32"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", SUBNETS)
def test_padding_side_does_not_matter(name: str) -> None:
    subnet = SUBNETS[name]
    network, arch = supernet(subnet["supernet"]), Arch.from_dict(subnet["arch"])
    left, right = (
        jitted_forward(network, arch, jnp.asarray(ARRAYS[key]), TARGET_INPUT)
        for key in ("batch/src_tokens", "batch/src_tokens_right_padded")
    )
    np.testing.assert_allclose(left, right, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", SUBNETS)
def test_loss(name: str) -> None:
    subnet = SUBNETS[name]
    network, arch = supernet(subnet["supernet"]), Arch.from_dict(subnet["arch"])
    sums = label_smoothed(
        jitted_forward(network, arch, SOURCE, TARGET_INPUT), TARGET, pad_id=1, smoothing=0.1
    )
    np.testing.assert_allclose(sums.loss, subnet["label_smoothed_loss_sum"], rtol=1e-5)
    np.testing.assert_allclose(sums.nll, subnet["nll_sum"], rtol=1e-5)
    assert sums.tokens == subnet["target_tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_GRADIENT)
@pytest.mark.parametrize("way", ["masked", "extracted"])
def test_gradients(name: str, way: str) -> None:
    subnet = SUBNETS[name]
    network, arch = supernet(subnet["supernet"]), Arch.from_dict(subnet["arch"])
    expected = from_fairseq(weights(f"subnets/{name}/grad_f64/"), space=network.spec.space)
    if way == "extracted":
        network, expected = extract(network, arch), extract(expected, arch)

    def loss(network, arch):
        return label_smoothed(
            forward(network, arch, SOURCE, TARGET_INPUT), TARGET, pad_id=1, smoothing=0.1
        ).loss

    gradient = jax.jit(jax.grad(loss))(network, arch)
    assert isinstance(gradient, Network)
    for path, wanted in jax.tree_util.tree_leaves_with_path(expected):
        found = np.asarray(dict(jax.tree_util.tree_leaves_with_path(gradient))[path])
        largest = max(np.abs(wanted).max(), 1e-8)
        assert np.abs(found - wanted).max() / largest < 1e-3, jax.tree_util.keystr(path)


def test_a_weight_too_many_too_few_or_misshapen_is_named() -> None:
    space, all_weights = SearchSpace(**META["supernets"]["moe2"]["space"]), weights("weights/moe2/")
    with pytest.raises(UserError, match="'surplus' does not belong to this search space"):
        from_fairseq(all_weights | {"surplus": np.zeros(3)}, space=space)
    name = "encoder.layers.0.self_attn.in_proj_bias"
    with pytest.raises(UserError, match=f"'{name}' has the shape"):
        from_fairseq(all_weights | {name: np.zeros(3)}, space=space)
    with pytest.raises(UserError, match=f"'{name}' is missing"):
        from_fairseq({key: value for key, value in all_weights.items() if key != name}, space=space)
