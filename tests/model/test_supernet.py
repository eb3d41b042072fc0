"""The SuperNet under a traced architecture against the extracted sub-Transformer, with one trace
for all.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax import arch as arch_lib
from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.extract import extract
from automoe_jax.model import ForwardOptions, Network, Spec, forward, layers, transformer
from automoe_jax.model.layers import Rates
from automoe_jax.model.network import Widths, abstract
from automoe_jax.model.transformer import apply, at_widths, output_table, states_at
from automoe_jax.ops.vocabulary import project
from tests.oracles import SPACE, inside, quick_jit, random_network

VOCAB, PAD = 30, 1
RNG = np.random.default_rng(0)
SOURCE = RNG.integers(4, VOCAB, (3, 7))
TARGET_INPUT = RNG.integers(4, VOCAB, (3, 6))
LENGTHS, TARGET_LENGTHS = (7, 4, 1), (6, 1, 3)
COTANGENT = jnp.asarray(RNG.normal(size=(3, 6, VOCAB)), jnp.float32)


def padded(tokens: np.ndarray, lengths: tuple[int, ...], side: str = "right") -> jax.Array:
    out = np.full(tokens.shape, PAD)
    for row, sentence, length in zip(out, tokens, lengths, strict=True):
        row[slice(0, length) if side == "right" else slice(tokens.shape[1] - length, None)] = (
            sentence[:length]
        )
    return jnp.asarray(out)


BATCH = (padded(SOURCE, LENGTHS), padded(TARGET_INPUT, TARGET_LENGTHS))
REAL = np.asarray(BATCH[1] != PAD)


def make(decoder_embed_dim: int, encoder: list[tuple], decoder: list[tuple]) -> arch_lib.Arch:
    """Layers as (heads, expert widths, top_k) and (self heads, cross heads, cross layers, expert
    widths, top_k).
    """
    encoder_names, decoder_names = (
        ("self_heads", "expert_ffn_dims", "top_k"),
        ("self_heads", "cross_heads", "cross_layers", "expert_ffn_dims", "top_k"),
    )
    return arch_lib.make(
        qkv_dim=16,
        encoder_embed_dim=16,
        decoder_embed_dim=decoder_embed_dim,
        encoder=[dict(zip(encoder_names, layer, strict=True)) for layer in encoder],
        decoder=[dict(zip(decoder_names, layer, strict=True)) for layer in decoder],
    )


ARCHS = {
    "experts everywhere": make(
        8, [(1, (16, 8, 8), 2), (2, (0, 16), 1)], [(2, 1, 2, (0, 8, 16), 2), (1, 2, 1, (8, 8), 2)]
    ),
    "one expert everywhere": make(16, [(2, (8,), 1), (1, (0,), 1)], [(1, 1, 2, (16,), 1)]),
    "identity alone next to experts": make(16, [(2, (0, 8), 2)], [(2, 2, 1, (0,), 1)]),
    "identities only": make(8, [(1, (0,), 1)], [(1, 2, 1, (0,), 1)]),
}


@functools.cache
def supernet() -> Network:
    return random_network(SPACE, VOCAB)


traces: list[Any] = []


def logits_and_gradient(
    network: Network, arch: arch_lib.Arch, source: jax.Array, target_input: jax.Array
) -> tuple[jax.Array, Network]:
    traces.append(network.spec)

    def loss(network: Network, widths: Widths) -> tuple[jax.Array, jax.Array]:
        logits = project(
            states_at(network, widths, arch, source, target_input).hidden,
            output_table(network, widths),
        )
        return jnp.sum(jnp.where(target_input[..., None] != PAD, logits * COTANGENT, 0)), logits

    gradient, logits = at_widths(
        network.spec, arch, lambda widths: jax.grad(loss, has_aux=True)(network, widths)
    )
    return logits, gradient


masked = quick_jit(logits_and_gradient)


@pytest.mark.parametrize("name", ARCHS)
def test_masked_equals_extracted(name: str) -> None:
    network, arch = supernet(), ARCHS[name]
    assert SPACE.contains(arch)
    logits, gradient = masked(network, arch, *BATCH)
    cut = extract(network, arch)
    exact_logits, exact_gradient = quick_jit(logits_and_gradient)(cut, arch, *BATCH)
    np.testing.assert_allclose(logits[REAL], exact_logits[REAL], atol=2e-5)
    assert isinstance(exact_gradient, Network)
    assert exact_gradient.spec == cut.spec
    jax.tree.map(close, extract(gradient, arch), exact_gradient)
    assert_zero_outside(gradient, arch)


def close(found: jax.Array, expected: jax.Array) -> None:
    np.testing.assert_allclose(
        found, expected, atol=2e-5 * max(1.0, float(jnp.abs(expected).max()))
    )


def assert_zero_outside(gradient: Network, arch: arch_lib.Arch) -> None:
    for leaf, kept in zip(jax.tree.leaves(gradient), inside(gradient, arch), strict=True):
        assert not np.any(np.asarray(leaf)[~kept])


def test_fifty_architectures_one_trace() -> None:
    network, rng = supernet(), np.random.default_rng(7)
    archs = [SPACE.sample(rng) for _ in range(50)]
    before = traces.count(network.spec)
    results = [
        masked(network, arch, *BATCH) for arch in (*archs, SPACE.largest(), SPACE.smallest())
    ]
    assert traces.count(network.spec) - before <= 1  # 0 if another test ran first
    for arch, (logits, gradient) in zip(archs, results, strict=False):
        assert np.isfinite(logits).all()
        assert_zero_outside(gradient, arch)
    assert len({np.asarray(logits).tobytes() for logits, _ in results}) == len(
        {*archs, SPACE.largest(), SPACE.smallest()}
    )


def test_largest_uses_everything() -> None:
    assert all(kept.all() for kept in inside(supernet(), SPACE.largest()))


def test_padding_side_does_not_matter() -> None:
    for arch in ARCHS.values():
        right, _ = masked(supernet(), arch, *BATCH)
        left, _ = masked(supernet(), arch, padded(SOURCE, LENGTHS, "left"), BATCH[1])
        np.testing.assert_allclose(left[REAL], right[REAL], atol=2e-5)


def test_pads_of_the_target_and_later_tokens_do_not_matter() -> None:
    """Causal: a position sees the tokens up to itself."""
    full, _ = masked(supernet(), ARCHS["experts everywhere"], BATCH[0], jnp.asarray(TARGET_INPUT))
    cut, _ = masked(supernet(), ARCHS["experts everywhere"], *BATCH)
    np.testing.assert_allclose(full[REAL], cut[REAL], atol=2e-5)


def test_traced_equals_concrete() -> None:
    """A concrete architecture picks its branch of widths in Python."""
    network, arch = supernet(), ARCHS["experts everywhere"]
    concrete = quick_jit(lambda network: forward(network, arch, *BATCH))(network)
    np.testing.assert_allclose(concrete[REAL], masked(network, arch, *BATCH)[0][REAL], atol=2e-5)


def numbers(network: Network) -> int:
    """Parameters without the embedding."""
    return sum(
        leaf.size
        for side in ("encoder", "decoder")
        for leaf in jax.tree.leaves(network.params[side])
    )


def test_parameters_equal_costs() -> None:
    rng = np.random.default_rng(11)
    network = jax.tree.map(np.asarray, supernet())
    archs = [
        *ARCHS.values(),
        SPACE.largest(),
        SPACE.smallest(),
        SPACE.largest_dense(),
        *(SPACE.sample(rng) for _ in range(100)),
    ]
    for arch in archs:
        cut = extract(network, arch)
        assert numbers(cut) == costs(arch).params
        assert cut.params["embedding"]["table"].shape == (
            VOCAB,
            max(16, int(arch.decoder_embed_dim)),
        )
    assert any(not arch.routed for arch in archs)


@pytest.mark.parametrize("name", ARCHS)
def test_extracted_has_the_shapes_it_would_be_initialised_with(name: str) -> None:
    arch = ARCHS[name]
    fresh, cut = abstract(Spec(SPACE, VOCAB, arch=arch)), extract(supernet(), arch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), fresh) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), cut
    )


def test_extracting_twice_changes_nothing() -> None:
    arch = ARCHS["experts everywhere"]
    cut = extract(supernet(), arch)
    assert extract(cut, arch) is cut


def test_architecture_outside_the_space() -> None:
    outside = make(8, [(1, (16, 8, 8, 8), 1)], [(1, 1, 1, (8,), 1)])
    with pytest.raises(UserError, match="not in the search space"):
        forward(supernet(), outside, *BATCH)
    with pytest.raises(UserError, match="not in the search space"):
        extract(supernet(), outside)
    first, second = list(ARCHS.values())[:2]
    with pytest.raises(UserError, match="another architecture"):
        forward(extract(supernet(), first), second, *BATCH)


# Dropout (docs/systems/automoe.md)


def test_rates() -> None:
    both = Spec(dataclasses.replace(SPACE, encoder_embed_dims=(8, 16)), VOCAB)
    forward_options, rng = ForwardOptions(0.4, 0.1), jax.random.key(0)
    assert transformer._rates(both, "encoder", Widths(16, 8), forward_options, rng) == Rates(
        0.4, 0.4, 0.1
    )
    assert transformer._rates(both, "encoder", Widths(8, 16), forward_options, rng) == Rates(
        0.4, 0.2, 0.1
    )
    assert transformer._rates(both, "decoder", Widths(16, 8), forward_options, rng) == Rates(
        0.4, 0.2, 0.1
    )
    assert transformer._rates(both, "decoder", Widths(8, 16), forward_options, rng) == Rates(
        0.4, 0.4, 0.1
    )
    assert transformer._rates(both, "decoder", Widths(8, 16), forward_options, None) == Rates(
        0, 0, 0
    )


def test_where_the_rates_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    """By tracing: the rates in the order of use, for a sub-network at half the decoder's width."""
    arch = make(8, [(2, (8,), 1)], [(1, 1, 1, (0, 8, 16), 2)])
    network = extract(supernet(), arch)
    used: list[tuple] = []

    def record(module: Any, name: str, rates: Any) -> None:
        original = getattr(module, name)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            used.append((name, *rates(args, kwargs)))
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, recorded)

    record(transformer, "dropout", lambda args, _: (args[1],))
    record(layers, "dropout", lambda args, _: (args[1],))
    record(layers, "attention", lambda _, kwargs: (kwargs["dropout_rate"],))
    record(
        layers, "dense_ffn", lambda _, kwargs: (kwargs["hidden_dropout"], kwargs["output_dropout"])
    )
    record(layers, "parallel_experts_ffn", lambda args, _: (args[-1].output_rate,))
    jax.eval_shape(
        functools.partial(apply, forward_options=ForwardOptions(0.4, 0.1)),
        network,
        arch,
        *BATCH,
        rng=jax.random.key(0),
    )
    assert used == [
        ("dropout", 0.4),  # embedding of the encoder, as wide as the SuperNet's
        ("attention", 0.1),
        ("dropout", 0.4),
        ("dense_ffn", 0.0, 0.4),
        ("dropout", 0.2),  # embedding of the decoder
        ("attention", 0.1),
        ("dropout", 0.2),
        ("attention", 0.1),
        ("dropout", 0.2),
        ("parallel_experts_ffn", 0.2),
    ]


def test_hidden_units_drop_at_a_rate_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rate for experts of any width, scaled by the width of the embedding; 0 unless
    `activation_dropout` is set, as in every published recipe.
    """
    arch = make(8, [(2, (8,), 1)], [(1, 1, 1, (0, 8, 16), 2)])
    cut, found = extract(supernet(), arch), []
    monkeypatch.setattr(
        layers,
        "parallel_experts_ffn",
        lambda x, *_: found.append(_[-1].hidden_rate) or x,
    )
    for options in (ForwardOptions(0.4, 0.1, activation_dropout=0.2), ForwardOptions(0.4, 0.1)):
        jax.eval_shape(
            functools.partial(apply, forward_options=options),
            cut,
            arch,
            *BATCH,
            rng=jax.random.key(0),
        )
    assert found[0].shape == (3,)
    assert found[1] is None
    rates = transformer._rates(
        cut.spec,
        "decoder",
        Widths(16, 8),
        ForwardOptions(0.4, 0.1, activation_dropout=0.2),
        jax.random.key(0),
    )
    assert rates == Rates(0.4, 0.2, 0.1, 0.1)


def test_inference_is_deterministic_and_dropout_is_not() -> None:
    arch, forward_options = ARCHS["identities only"], ForwardOptions(0.3, 0.1)
    network = extract(supernet(), arch)
    run = quick_jit(
        lambda rng: (
            apply(network, arch, *BATCH, forward_options=forward_options, rng=rng).logits,
            apply(network, arch, *BATCH, forward_options=forward_options).logits,
        )
    )
    (first, plain), (again, plain_again), (other, plain_other) = (
        run(jax.random.key(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(plain, plain_again)
    np.testing.assert_array_equal(plain, plain_other)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first - plain).max() > 0.1


def test_bfloat16_keeps_float32_logits_and_parameters() -> None:
    arch = make(16, [(2, (8,), 1)], [(2, 1, 1, (16,), 1)])  # no router, which rounding could flip
    network = extract(supernet(), arch)

    def run(network, dtype):
        return apply(network, arch, *BATCH, forward_options=ForwardOptions(dtype=dtype)).logits

    half, full = (
        quick_jit(run, static_argnums=1)(network, dtype) for dtype in ("bfloat16", "float32")
    )
    assert half.dtype == full.dtype == jnp.float32
    assert 0 < np.abs(half - full)[REAL].max() < 0.05 * np.abs(full).max()
    gradient = jax.eval_shape(jax.grad(lambda network: run(network, "bfloat16").sum()), network)
    assert isinstance(gradient, Network)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


def test_metrics_of_absent_and_dense_layers_are_zero() -> None:
    run = jax.jit(lambda arch: apply(supernet(), arch, *BATCH)).trace(SPACE.largest())
    assert jax.tree.map(lambda leaf: leaf.shape, run.out_info.encoder) == layers.RouterMetrics(
        *[(2,)] * 6, (2, 32)
    )
