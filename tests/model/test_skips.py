"""Layers that skip attention or their FFN: the SuperNet under traced architectures against the
extracted sub-Transformers.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from automoe_jax.arch import Arch
from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.extract import extract, insert
from automoe_jax.model import ForwardOptions, Network, Spec
from automoe_jax.model.network import abstract
from automoe_jax.model.transformer import Output, apply
from automoe_jax.routers import RouterConfig
from tests.model.test_supernet import (
    BATCH,
    REAL,
    VOCAB,
    assert_zero_outside,
    close,
    logits_and_gradient,
    make,
    numbers,
    traces,
)
from tests.oracles import SPACE, quick_jit, random_network, step_by_step

SKIPPING = dataclasses.replace(
    SPACE,
    decoder_embed_dims=(16,),
    encoder_self_heads=(0, 1, 2),
    decoder_self_heads=(0, 1, 2),
    decoder_cross_heads=(0, 1, 2),
    encoder_experts=(0, 1, 2),
    decoder_experts=(0, 1, 2),
)
ARCHS = {
    "everything but one cross attention": SKIPPING.smallest(),
    "attention": make(16, [(0, (16, 8), 2)], [(0, 1, 1, (0, 8), 1), (2, 0, 0, (8,), 1)]),
    "FFN": make(16, [(2, (), 0), (1, (16,), 1)], [(1, 2, 2, (), 0), (2, 2, 1, (8, 8), 2)]),
    "a layer of each side": make(
        16, [(0, (), 0), (1, (16,), 1)], [(0, 0, 0, (), 0), (1, 1, 2, (16,), 1)]
    ),
}


@functools.cache
def supernet() -> Network:
    return random_network(SKIPPING, VOCAB)


masked = quick_jit(logits_and_gradient)
exact = quick_jit(logits_and_gradient)


def archs() -> list[Arch]:
    rng = np.random.default_rng(5)
    return [*ARCHS.values(), *(SKIPPING.sample(rng) for _ in range(2))]


@pytest.mark.parametrize("number", range(6))
def test_masked_equals_extracted(number: int) -> None:
    network, arch = supernet(), archs()[number]
    assert SKIPPING.contains(arch)
    logits, gradient = masked(network, arch, *BATCH)
    cut = extract(network, arch)
    exact_logits, exact_gradient = exact(cut, arch, *BATCH)
    np.testing.assert_allclose(logits[REAL], exact_logits[REAL], atol=2e-5)
    jax.tree.map(close, extract(gradient, arch), exact_gradient)
    assert_zero_outside(gradient, arch)


def test_one_trace_for_every_architecture() -> None:
    network = supernet()
    before = traces.count(network.spec)
    found = [masked(network, arch, *BATCH)[0] for arch in (*archs(), SKIPPING.largest())]
    assert traces.count(network.spec) - before <= 1
    assert len({np.asarray(logits).tobytes() for logits in found}) == len(found)


def test_parameters_equal_costs_and_those_of_a_new_network() -> None:
    rng = np.random.default_rng(3)
    network = jax.tree.map(np.asarray, supernet())
    for arch in (*archs(), *(SKIPPING.sample(rng) for _ in range(40))):
        cut = extract(network, arch)
        assert numbers(cut) == costs(arch).params
    for arch in archs():
        fresh = abstract(Spec(SKIPPING, VOCAB, arch=arch)).params
        shapes = jax.tree.map(lambda leaf: leaf.shape, fresh)
        assert shapes == jax.tree.map(lambda leaf: leaf.shape, extract(network, arch).params)


@pytest.mark.parametrize("name", ARCHS)
def test_inserted_weights_are_those_of_the_sub_transformer(name: str) -> None:
    """`insert` of what `extract` cut: the same weights in their places, 0 elsewhere."""
    arch = ARCHS[name]
    cut = extract(supernet(), arch)
    whole = insert(cut)
    assert whole.spec == supernet().spec
    jax.tree.map(np.testing.assert_array_equal, extract(whole, arch).params, cut.params)
    assert_zero_outside(whole, arch)
    logits, _ = masked(whole, arch, *BATCH)
    np.testing.assert_allclose(logits[REAL], masked(supernet(), arch, *BATCH)[0][REAL], atol=2e-5)


@pytest.mark.parametrize("name", ARCHS)
def test_step_by_step_equals_all_at_once(name: str) -> None:
    arch = ARCHS[name]
    network = extract(supernet(), arch)
    at_once = quick_jit(lambda network: apply(network, arch, *BATCH).logits)(network)
    stepped = quick_jit(step_by_step)(network, BATCH[0], BATCH[1][:, None])[:, 0]
    np.testing.assert_allclose(stepped[REAL], at_once[REAL], atol=2e-5)


def test_a_skipped_ffn_routes_nothing() -> None:
    network, arch = supernet(), ARCHS["a layer of each side"]
    options = ForwardOptions(routings=True)

    def run(network: Network, arch: Arch) -> Output:
        return apply(network, arch, *BATCH, forward_options=options)

    traced = quick_jit(run)(network, arch)
    cut = quick_jit(run)(extract(network, arch), arch)
    np.testing.assert_allclose(traced.logits[REAL], cut.logits[REAL], atol=2e-5)
    skipped = traced.routings[0]
    assert skipped is not None
    assert np.all(skipped.chosen == skipped.probabilities.shape[-1])
    assert cut.routings[0] is None
    for metric in (*traced.encoder, *traced.decoder):
        assert not np.any(metric[0])


@pytest.mark.slow
def test_pre_norm() -> None:
    network, arch = random_network(SKIPPING, VOCAB, norm="pre"), ARCHS["attention"]
    logits, gradient = masked(network, arch, *BATCH)
    cut = extract(network, arch)
    exact_logits, exact_gradient = exact(cut, arch, *BATCH)
    np.testing.assert_allclose(logits[REAL], exact_logits[REAL], atol=2e-5)
    jax.tree.map(close, extract(gradient, arch), exact_gradient)


def test_a_router_that_uses_attention_has_it() -> None:
    with pytest.raises(UserError, match=r"encoder.layers\[0\].self_heads=0 skips the self-att"):
        Spec(SKIPPING, VOCAB, arch=ARCHS["attention"], router=RouterConfig(kind="importance"))
