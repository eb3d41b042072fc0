"""Initial weights of experts against the distributions of the originals' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from automoe_jax import arch as arch_lib
from automoe_jax.config import FFN_INITS as NAMES
from automoe_jax.errors import UserError
from automoe_jax.model import init
from automoe_jax.model.initial import FFN_INITS
from automoe_jax.space import SearchSpace

WIDTH, EXPERTS = 128, (512, 256)


def uniform(fan: float) -> scipy.stats.rv_continuous:
    """PyTorch's linear layer: U(±1/√fan_in), weight and bias."""
    return scipy.stats.uniform(-(fan**-0.5), 2 * fan**-0.5)


def glorot(fan_in: int, fan_out: int) -> scipy.stats.rv_continuous:
    limit = (6 / (fan_in + fan_out)) ** 0.5
    return scipy.stats.uniform(-limit, 2 * limit)


def truncated(fan: int) -> scipy.stats.rv_continuous:
    """Mesh TensorFlow's variance scaling for Switch: a normal cut at two standard deviations."""
    return scipy.stats.truncnorm(-2, 2, scale=(0.1 / fan) ** 0.5)


# scheme → of an expert of width F: w_in, b_in, w_out, b_out; None: zeros
ORIGINALS = {
    "xavier": lambda f: (glorot(WIDTH, f), None, glorot(f, WIDTH), None),
    "linear": lambda f: (uniform(WIDTH), uniform(WIDTH), uniform(f), uniform(f)),
    "truncated_normal": lambda f: (truncated(WIDTH), None, truncated(f), None),
}


def test_configuration_names_every_scheme() -> None:
    assert tuple(FFN_INITS) == NAMES == tuple(ORIGINALS)


@pytest.mark.parametrize("name", ORIGINALS)
def test_each_expert_starts_as_in_the_originals(name: str) -> None:
    initial = FFN_INITS.find(name)(WIDTH, EXPERTS)
    units, keys = sum(EXPERTS), jax.random.split(jax.random.key(0), 4)
    shapes = ((units, WIDTH), (units,), (units, WIDTH), (len(EXPERTS), WIDTH))
    w_in, b_in, w_out, b_out = (
        np.asarray(draw(key, shape)) for draw, key, shape in zip(initial, keys, shapes, strict=True)
    )
    for expert, rows in enumerate((slice(0, 512), slice(512, 768))):
        drawn = (w_in[rows], b_in[rows], w_out[rows], b_out[expert])
        for values, wanted in zip(drawn, ORIGINALS[name](EXPERTS[expert]), strict=True):
            if wanted is None:
                assert not values.any()
            else:
                assert scipy.stats.kstest(values.ravel(), wanted.cdf).pvalue > 1e-3


def test_network_uses_the_scheme_and_nothing_else_changes() -> None:
    space = SearchSpace(
        qkv_dim=16,
        encoder_embed_dims=(16,),
        decoder_embed_dims=(16,),
        encoder_layers=(1,),
        decoder_layers=(1,),
        encoder_experts=(2,),
        decoder_experts=(2,),
        expert_ffn_dims=(8, 64),
        encoder_self_heads=(2,),
        decoder_self_heads=(2,),
        decoder_cross_heads=(2,),
        cross_layers=(1,),
    )
    networks = {name: init(space, 20, jax.random.key(3), ffn_init=name) for name in NAMES}
    of_experts = {
        name: network.params["decoder"]["layer_0"]["experts"] for name, network in networks.items()
    }
    # The SuperNet's experts have the largest width of the space.
    assert jnp.abs(of_experts["linear"]["w_out"]).max() <= 64**-0.5
    assert jnp.abs(of_experts["linear"]["b_in"]).max() > 0
    assert jnp.abs(of_experts["xavier"]["w_out"]).max() > 64**-0.5
    for name in NAMES[1:]:
        rest, same = networks[name].params, networks["xavier"].params
        attention = ("decoder", "layer_0", "cross_attention")
        for key in attention:
            rest, same = rest[key], same[key]
        assert all(map(jnp.array_equal, jax.tree.leaves(rest), jax.tree.leaves(same)))


def test_retrained_expert_is_scaled_by_its_own_width() -> None:
    space = SearchSpace(expert_ffn_dims=(1024, 3072), encoder_experts=(1,), decoder_experts=(1,))
    arch = arch_lib.Arch.from_dict(space.smallest().to_dict())
    network = init(space, 20, jax.random.key(0), arch=arch, ffn_init="linear")
    w_out = network.params["encoder"]["layer_0"]["experts"]["w_out"]
    assert 0.99 * 1024**-0.5 < jnp.abs(w_out).max() <= 1024**-0.5


def test_unknown_scheme() -> None:
    with pytest.raises(UserError, match=r"config.model.ffn_init='he' must be one of xavier"):
        FFN_INITS.find("he")
