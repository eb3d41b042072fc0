"""Experts that the tokens of a text get: against the router's metrics, and for routers without a
choice.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax import arch as arch_lib
from automoe_jax.costs import costs
from automoe_jax.inference.expert_usage import measure
from automoe_jax.model import Network
from automoe_jax.model.transformer import apply, shift_right
from automoe_jax.routers import RouterConfig
from tests.oracles import SPACE, quick_jit, random_network

VOCAB, PAD = 30, 1
ENCODER = [
    {"self_heads": 2, "expert_ffn_dims": [16, 8], "top_k": 1},
    {"self_heads": 1, "expert_ffn_dims": [8], "top_k": 1},
]
DECODER = [
    {"self_heads": 1, "cross_heads": 1, "cross_layers": 1, "expert_ffn_dims": [0], "top_k": 1},
    {
        "self_heads": 2,
        "cross_heads": 1,
        "cross_layers": 1,
        "expert_ffn_dims": [0, 16, 8],
        "top_k": 2,
    },
]
ARCH = arch_lib.make(
    qkv_dim=16, encoder_embed_dim=16, decoder_embed_dim=8, encoder=ENCODER, decoder=DECODER
)
SEVERAL = (0, 3)  # layers with several experts
RNG = np.random.default_rng(0)
SOURCE, TARGET = RNG.integers(4, VOCAB, (3, 9)), RNG.integers(4, VOCAB, (3, 6))
SOURCE[0, 7:], SOURCE[1, 4:], TARGET[1, 5:], TARGET[2, 3:] = PAD, PAD, PAD, PAD
BATCH = {"source": SOURCE, "target": TARGET}


def network_of(**router: str) -> Network:
    return random_network(SPACE, VOCAB, arch=ARCH, router=RouterConfig(**router))


@pytest.mark.parametrize("kind", ["topk", "importance"])
def test_equals_what_the_router_counts(kind: str) -> None:
    network = network_of(kind=kind)
    found = measure(network, [BATCH])
    output = quick_jit(apply)(
        network, ARCH, jnp.asarray(SOURCE), shift_right(jnp.asarray(TARGET), PAD)
    )
    entropies = [*output.encoder.entropy, *output.decoder.entropy]
    choices = [*output.encoder.choices, *output.decoder.choices]
    for i in SEVERAL:
        loads = np.array(found.loads[i])
        even = loads[loads > 0] / loads.sum()
        assert -np.sum(even * np.log(even)) / np.log(len(loads)) == pytest.approx(
            float(entropies[i]), abs=1e-5
        )
        np.testing.assert_allclose(found.shares[i], choices[i][: len(loads)], atol=1e-6)
        assert loads.sum() == pytest.approx(np.arange(1, len(loads) + 1) @ found.shares[i])
    assert [found.loads[1], found.loads[2]] == [[1.0], [1.0]]
    assert np.nansum(found.source_tokens * found.counts) == pytest.approx(
        sum(found.loads[0]) * (SOURCE != PAD).sum()
    )


def test_two_batches_weigh_as_their_tokens() -> None:
    network = network_of(kind="topk")
    together = measure(network, [BATCH])
    apart = measure(
        network,
        [
            {side: array[rows] for side, array in BATCH.items()}
            for rows in (slice(0, 1), slice(1, 3))
        ],
    )
    for one, other in zip(together.loads, apart.loads, strict=True):
        np.testing.assert_allclose(one, other)
    np.testing.assert_array_equal(together.counts, apart.counts)


@pytest.mark.parametrize(
    ("bias", "expected"), [([9.0, -9.0], [1.0, 0.0]), ([-9.0, 9.0], [0.0, 1.0])]
)
def test_what_a_collapsed_router_costs_is_its_one_expert(
    bias: list[float], expected: list[float]
) -> None:
    network = network_of(kind="topk")
    network = dataclasses.replace(network, params=jax.tree.map(lambda x: x, network.params))
    network.params["encoder"]["layer_0"]["experts"]["router_bias"] = 99 * jnp.array(bias)
    loads = measure(network, [BATCH]).loads
    assert loads[0] == expected
    even = [expected, [1.0], [1.0], [2 / 3] * 3]
    difference = costs(ARCH, loads=even).flops - costs(ARCH).flops
    assert difference == pytest.approx(2 * 30 * 2 * 16 * (np.dot(expected, [16, 8]) - 12))
