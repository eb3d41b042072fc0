"""The space of the dense rival, and its equality with HAT's search of the comparison."""

import dataclasses

import numpy as np
import pytest

from automoe_jax.config import Config, SearchConfig, from_config_dict
from automoe_jax.search.rival import subspace
from automoe_jax.space import SearchSpace
from configs import systems

LIMITED = SearchConfig(max_flops=1e12)


def test_the_space_is_that_of_the_comparisons_hat():
    """The row `hat` of the comparison runs the same search, with a SuperNet of its own."""
    automoe, hat = (from_config_dict(made()) for made in (systems.automoe, systems.hat))
    assert subspace(dataclasses.replace(automoe)) == hat.space
    assert automoe.search == hat.search
    assert subspace(hat) is None, "all of its architectures are dense"


def test_its_architectures_are_dense_and_of_the_space():
    config = Config(space=SearchSpace(expert_layers_every=2, top_k=(1, 2)), search=LIMITED)
    space = subspace(config)
    assert space is not None
    rng = np.random.default_rng(0)
    for _ in range(20):
        arch = space.sample(rng)
        assert not arch.routed
        assert config.space.contains(arch)
    assert config.space.contains(space.smallest())


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(search=dataclasses.replace(LIMITED, dense_rival=False)),
        Config(search=LIMITED, space=SearchSpace().dense()),
        Config(search=LIMITED, space=SearchSpace(decoder_experts=(2, 4))),
    ],
    ids=["no limit", "not wanted", "all dense", "none dense"],
)
def test_no_rival(config: Config):
    assert subspace(config) is None
