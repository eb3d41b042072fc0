"""Networks to rank: half of them with equal FLOPs, and more of them continue fewer."""

import dataclasses

import numpy as np
import pytest

from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.rank.draws import BAND, draw_networks
from automoe_jax.space import SearchSpace

SPACE = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16,),
    decoder_embed_dims=(16,),
    encoder_layers=(1, 2),
    decoder_layers=(1, 2),
    encoder_self_heads=(1, 2),
    decoder_self_heads=(1, 2),
    decoder_cross_heads=(1, 2),
    encoder_experts=(1, 2),
    decoder_experts=(1, 2),
    expert_ffn_dims=(16, 32, 64),
)


def flops(arch):
    return costs(arch, 10, 10, 100).flops


def test_half_are_of_equal_flops_and_all_are_different() -> None:
    drawn = draw_networks(SPACE.sample, flops, 17, SPACE.size(), seed=3)
    assert len(set(drawn.archs)) == 17
    assert sum(drawn.alike) == 9
    alike = [flops(arch) for arch, own in zip(*drawn, strict=True) if own]
    everything = [flops(arch) for arch in drawn.archs]
    assert max(alike) <= BAND * min(alike)
    assert max(everything) > 1.3 * min(everything)
    fewer = draw_networks(SPACE.sample, flops, 8, SPACE.size(), seed=3)
    assert fewer.archs == drawn.archs[:8]


def test_band_is_where_most_draws_are() -> None:
    values = {3: 10.0, 1: 100.0, 2: 105.0}  # by FFN width index

    def draw(rng: np.random.Generator):
        return dataclasses.replace(
            SPACE, expert_ffn_dims=(int(rng.choice([1, 1, 2, 3])),)
        ).largest()

    def cost(arch) -> float:
        return values[arch.encoder_experts[0][0]]

    drawn = draw_networks(draw, cost, 3, 3, seed=0)
    assert [cost(arch) for arch in drawn.archs].count(10.0) == 1
    assert all(cost(arch) >= 100 for arch, own in zip(*drawn, strict=True) if own)


def test_too_many_networks_are_an_error() -> None:
    with pytest.raises(UserError, match=r"--archs=9 is more than the 8 architectures"):
        draw_networks(SPACE.sample, flops, 9, 8, seed=0)
    one = SPACE.largest()
    with pytest.raises(UserError, match=r"--archs=4 needs more networks.*at most --archs=1"):
        draw_networks(lambda rng: one, flops, 4, SPACE.size(), seed=0)
