"""Untrained weights have the shapes of the model's own."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from automoe_jax.export.models import translator
from automoe_jax.export.network import inputs_of
from automoe_jax.export.untrained import untrained
from automoe_jax.inference.engine.session import session
from automoe_jax.routers import RouterConfig
from tests.oracles import SPACE, random_network

DENSE = SPACE.largest_dense()


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in flat}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "pre"},
        {"shared_embeddings": "none", "target_vocab_size": 60},
        {"router": RouterConfig(kind="random")},
        {"classes": 3},
    ],
    ids=["post", "pre", "tables", "no gate", "classes"],
)
def test_shapes_are_the_models(seed: int, options: dict[str, Any]) -> None:
    arch = DENSE if seed == 0 else SPACE.sample(np.random.default_rng(seed))
    space = SPACE
    if "classes" in options:
        space = dataclasses.replace(SPACE, decoder_embed_dims=(16,), decoder_layers=(0,))
        arch = space.sample(np.random.default_rng(seed))
    network = random_network(space, 50, arch=arch, **options)
    exact, settings, weights = inputs_of(network, (8,))
    assert shapes(untrained(exact, settings)) == shapes(weights)


def test_a_graph_of_them_runs() -> None:
    network = random_network(SPACE, 50, arch=DENSE)
    arch, settings, _ = inputs_of(network, (8,))
    model = translator(arch, settings, untrained(arch, settings))
    assert session(model.SerializeToString(), 1).get_outputs()
