"""Every kind of router: the SuperNet equals the sub-Transformer, decoding equals teacher forcing,
pads and the future do not matter.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.arch import Arch
from automoe_jax.data.tokenizer import EOS
from automoe_jax.extract import extract
from automoe_jax.model import ForwardOptions, Network
from automoe_jax.model.transformer import Output, apply
from automoe_jax.routers import RouterConfig
from automoe_jax.space import SearchSpace
from tests.oracles import quick_jit, random_network, step_by_step

VOCAB, PAD = 30, 1
SPACE = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16,),
    decoder_embed_dims=(16,),
    encoder_layers=(1,),
    decoder_layers=(1,),
    encoder_self_heads=(1, 2),
    decoder_self_heads=(1, 2),
    decoder_cross_heads=(2,),
    cross_layers=(1,),
    encoder_experts=(1, 2, 4),
    decoder_experts=(1, 2, 4),
    expert_ffn_dims=(8, 16),
)
ROUTERS = {
    "received": RouterConfig(kind="importance"),
    "relative": RouterConfig(kind="importance", importance="relative_received"),
    "gates of one": RouterConfig(gate="one"),
    "given, raw gates": RouterConfig(kind="importance", importance="given", renormalise=False),
    "random by token": RouterConfig(kind="random"),
    "random by sentence": RouterConfig(kind="random", inference="sentence"),
    "mean": RouterConfig(kind="random", inference="mean"),
    "by word": RouterConfig(kind="random", draw="fixed"),
}
RNG = np.random.default_rng(0)
SOURCE = RNG.integers(4, VOCAB, (3, 9))
SOURCE[0, 7:], SOURCE[1, 4:], SOURCE[2, 2:] = PAD, PAD, PAD
TARGET_INPUT = RNG.integers(4, VOCAB, (3, 6))
TARGET_INPUT[:, 0] = EOS
TARGET_INPUT[1, 5:], TARGET_INPUT[2, 3:] = PAD, PAD
REAL = TARGET_INPUT != PAD
FEWER = dataclasses.replace(
    SPACE, encoder_experts=(2,), decoder_experts=(4,), encoder_self_heads=(1,)
).largest()


@functools.cache
def supernet(kind: str) -> Network:
    return random_network(SPACE, VOCAB, router=ROUTERS[kind])


@quick_jit
def run(network: Network, arch: Arch, source: jax.Array, target_input: jax.Array) -> Output:
    return apply(network, arch, source, target_input)


@pytest.mark.parametrize("kind", ROUTERS)
def test_masked_equals_extracted(kind: str) -> None:
    masked, exact = (
        run(network, FEWER, SOURCE, TARGET_INPUT)
        for network in (supernet(kind), extract(supernet(kind), FEWER))
    )
    np.testing.assert_allclose(masked.logits[REAL], exact.logits[REAL], atol=2e-5)
    for side in ("encoder", "decoder"):
        np.testing.assert_allclose(
            getattr(masked, side).choices, getattr(exact, side).choices, atol=1e-6
        )
    assert (
        np.abs(masked.logits - run(supernet(kind), SPACE.largest(), SOURCE, TARGET_INPUT).logits)[
            REAL
        ].max()
        > 0.1
    )


@pytest.mark.parametrize("kind", ROUTERS)
def test_the_future_does_not_matter(kind: str) -> None:
    """Of the target; results before the changed position are bitwise equal."""
    changed = TARGET_INPUT.copy()
    changed[:, 4:] = np.where(changed[:, 4:] == PAD, PAD, (changed[:, 4:] + 5) % (VOCAB - 4) + 4)
    first, other = (
        run(supernet(kind), FEWER, SOURCE, target).logits for target in (TARGET_INPUT, changed)
    )
    np.testing.assert_allclose(first[:, :4][REAL[:, :4]], other[:, :4][REAL[:, :4]], atol=1e-6)
    assert np.abs(first[0, 4:] - other[0, 4:]).max() > 0.1


@pytest.mark.parametrize("kind", ROUTERS)
def test_padding_and_neighbours_do_not_matter(kind: str) -> None:
    together = run(supernet(kind), FEWER, SOURCE, TARGET_INPUT)
    source, target = SOURCE[[0, 0, 1]], TARGET_INPUT[[0, 0, 1]]
    source[2] = np.roll(source[2], 3)  # pads on both sides
    elsewhere = run(supernet(kind), FEWER, source, target)
    np.testing.assert_allclose(elsewhere.logits[2][REAL[1]], together.logits[1][REAL[1]], atol=2e-5)


@pytest.mark.parametrize("kind", ROUTERS)
def test_decoding_step_by_step_equals_teacher_forcing(kind: str) -> None:
    network = extract(supernet(kind), FEWER)
    tokens = jnp.stack([jnp.asarray(TARGET_INPUT), jnp.asarray(TARGET_INPUT[:, ::-1])], axis=1)
    found = quick_jit(step_by_step)(network, jnp.asarray(SOURCE), tokens)[:, 0]
    np.testing.assert_allclose(
        found[REAL], run(network, FEWER, SOURCE, TARGET_INPUT).logits[REAL], atol=2e-5
    )


@quick_jit
def routed(network: Network, arch: Arch, source: jax.Array, target_input: jax.Array) -> Output:
    forward_options = ForwardOptions(routings=True)
    return apply(network, arch, source, target_input, forward_options=forward_options)


def test_routings_are_returned_on_request() -> None:
    """Of the SuperNet and of the sub-Transformer the same, by position; none unless asked for."""
    network = supernet("received")
    masked, exact = (
        routed(n, FEWER, SOURCE, TARGET_INPUT) for n in (network, extract(network, FEWER))
    )
    for real, one, other in zip(
        (SOURCE != PAD, REAL), masked.routings, exact.routings, strict=True
    ):
        assert one is not None
        assert other is not None
        gates = [
            np.sum(jax.nn.one_hot(r.chosen, 4) * r.gates[..., None], axis=-2) for r in (one, other)
        ]
        np.testing.assert_allclose(gates[0][real], gates[1][real], atol=1e-5)
        np.testing.assert_allclose(gates[0][real].sum(-1), 1, atol=1e-5)
    plain = run(network, FEWER, SOURCE, TARGET_INPUT)
    assert plain.routings == ()
    np.testing.assert_array_equal(plain.logits, masked.logits)


def test_routings_of_absent_and_of_lone_experts() -> None:
    """An absent layer makes no choice; a sub-Transformer's single expert needs no routing."""
    space = dataclasses.replace(SPACE, encoder_layers=(1, 2), encoder_experts=(1, 2))
    arch = dataclasses.replace(space, encoder_layers=(1,), encoder_experts=(1,)).largest()
    network = random_network(space, VOCAB)
    _, absent, _ = routed(network, arch, SOURCE, TARGET_INPUT).routings
    assert absent is not None
    assert absent.chosen.shape == (*SOURCE.shape, 1)
    np.testing.assert_array_equal(absent.chosen, 2)
    np.testing.assert_array_equal(absent.gates, 0)
    lone, several = routed(extract(network, arch), arch, SOURCE, TARGET_INPUT).routings
    assert lone is None
    assert several is not None
    assert several.chosen.shape == (*TARGET_INPUT.shape, 1)


def test_random_routes_have_no_router() -> None:
    layer = supernet("by word").params["encoder"]["layer_0"]["experts"]
    assert set(layer) == {"w_in", "b_in", "w_out", "b_out"}


def test_the_first_token_of_the_decoder_sees_itself_alone_and_gets_every_expert() -> None:
    first = run(
        supernet("received"),
        SPACE.largest(),
        SOURCE,
        np.where(np.arange(6) == 0, TARGET_INPUT, PAD),
    )
    np.testing.assert_allclose(first.decoder.choices[:, 3], 1)


def test_random_routes_follow_the_seed() -> None:
    network = supernet("random by token")
    other = Network(
        network.params,
        dataclasses.replace(network.spec, router=RouterConfig(kind="random", seed=1)),
    )
    first, again, changed = (
        run(n, SPACE.largest(), SOURCE, TARGET_INPUT).logits for n in (network, network, other)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - changed)[REAL].max() > 0.1


def test_in_training_one_expert_is_drawn_for_each_pass() -> None:
    """Over many keys, every layer of a pass sends all its tokens to one expert, and the passes draw
    independently.
    """
    forward_options, arch = ForwardOptions(passes=2), SPACE.largest()
    both = [np.concatenate([side] * 2) for side in (SOURCE, TARGET_INPUT)]

    @quick_jit
    def drawn(key: jax.Array) -> Output:
        return apply(
            supernet("random by token"), arch, *both, forward_options=forward_options, rng=key
        )

    outputs = [drawn(jax.random.key(seed)) for seed in range(20)]
    entropies = np.array([output.encoder.entropy for output in outputs])
    one, two = 0.0, np.log(2) / np.log(4)
    assert np.all(np.isclose(entropies, one, atol=1e-6) | np.isclose(entropies, two, atol=1e-5))
    # three quarters of the pairs differ
    assert 0.5 < np.mean(np.isclose(entropies, two, atol=1e-5)) < 1
    halves = [np.split(np.asarray(output.logits), 2) for output in outputs]
    assert any(np.abs(first - second)[REAL].max() > 0.1 for first, second in halves)
