"""Safetensors and StableHLO, loaded back."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from automoe_jax.arch import Arch
from automoe_jax.config import default_config, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.export.__main__ import _check_writable
from automoe_jax.export.stablehlo import from_stablehlo, to_stablehlo
from automoe_jax.export.tensors import from_safetensors, to_safetensors
from automoe_jax.model import forward
from automoe_jax.model.network import spec_of
from automoe_jax.routers import RouterConfig
from tests.oracles import SPACE, random_network

VOCAB, LENGTH = 30, 8
RNG = np.random.default_rng(0)


def tokens(sentences: int) -> np.ndarray:
    return RNG.integers(4, VOCAB, (sentences, LENGTH)).astype(np.int32)


def test_safetensors_hold_the_network(tmp_path: pathlib.Path) -> None:
    config = from_config_dict(default_config())
    arch = config.space.smallest()
    network = random_network(config.space, VOCAB, arch=arch)
    assert network.spec == spec_of(config, VOCAB, arch=arch)
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_safetensors(network, config))
    loaded = from_safetensors(str(path))
    assert loaded.spec == network.spec
    source, target = tokens(2), tokens(2)
    np.testing.assert_array_equal(
        forward(loaded, arch, source, target), forward(network, arch, source, target)
    )
    with safetensors.safe_open(str(path), "numpy") as file:
        assert Arch.from_json(file.metadata()["architecture"]) == arch
        assert "encoder/layer_0/self_attention/qkv/kernel" in set(file.keys())
        assert json.loads(file.metadata()["sizes"])["vocab_size"] == VOCAB


def test_other_safetensors_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(3)}))
    with pytest.raises(UserError, match="holds no network of this package"):
        from_safetensors(str(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is no safetensors file that can be read"):
        from_safetensors(str(path))


@pytest.mark.parametrize(
    "router",
    [
        RouterConfig(),
        RouterConfig(kind="importance"),
        RouterConfig(kind="random"),
        RouterConfig(kind="random", inference="mean"),
    ],
    ids=lambda router: f"{router.kind}-{router.inference}",
)
def test_stablehlo_takes_any_number_of_sentences(router: RouterConfig) -> None:
    arch = SPACE.sample(np.random.default_rng(3))
    network = random_network(SPACE, VOCAB, arch=arch, router=router)
    program = from_stablehlo(to_stablehlo(network, LENGTH))
    for sentences in (1, 5):
        source, target = tokens(sentences), tokens(sentences)
        np.testing.assert_allclose(
            program.call(source, target), forward(network, arch, source, target), atol=2e-5
        )


def test_stablehlo_of_a_classifier() -> None:
    space = dataclasses.replace(SPACE, decoder_embed_dims=(16,), decoder_layers=(0,))
    arch = space.largest()
    network = random_network(space, VOCAB, arch=arch, classes=7)
    source = tokens(3)
    expected = forward(network, arch, source, np.ones((3, 1), np.int32))[:, 0]
    stored = jax.tree.map(np.asarray, network)  # as from a workdir
    program = from_stablehlo(to_stablehlo(stored, LENGTH))
    np.testing.assert_allclose(program.call(source), expected, atol=2e-5)


@pytest.mark.parametrize("out", ["file/model", "file/deep/model", "/proc/model"])
def test_a_folder_that_cannot_be_made_is_one_sentence(out: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out=.*model cannot be made \(.*\); name a folder"):
        _check_writable(tmp_path / out)
