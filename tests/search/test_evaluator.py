"""Candidates scored by a small SuperNet: losses of its forward pass, one compilation, equal results
with early stopping.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.config import TOP_K, SearchConfig
from automoe_jax.data.tokenizer import EOS, PAD
from automoe_jax.model import ForwardOptions, forward
from automoe_jax.model.transformer import shift_right
from automoe_jax.search import evaluator
from automoe_jax.search.evolution import evolve
from automoe_jax.search.limits import Conditions, cost_function
from automoe_jax.search.pareto import best, pareto_front
from automoe_jax.search.stopping import Trial
from tests.oracles import SPACE, quick_jit, random_network

VOCAB = 24
# Few elastic genes, to compile quickly: the encoder's widths, the depths, the experts.
WIDE = dataclasses.replace(
    SPACE,
    encoder_embed_dims=(8, 16),
    decoder_embed_dims=(16,),
    decoder_layers=(1,),
    expert_ffn_dims=(0, 16),
)


def sentences(rows, length, seed):
    rng = np.random.default_rng(seed)
    drawn, lengths = (
        rng.integers(4, VOCAB, (rows, length)).astype(np.int32),
        rng.integers(2, length + 1, rows),
    )
    for row, end in zip(drawn, lengths, strict=True):
        row[end - 1], row[end:] = EOS, PAD
    return drawn


def text(*shapes):
    return [
        {"source": sentences(*shape, i), "target": sentences(*shape, 100 + i)}
        for i, shape in enumerate(shapes)
    ]


@pytest.fixture(scope="module")
def supernet():
    return random_network(WIDE, VOCAB)


def test_losses_are_those_of_the_forward_pass_whoever_shares_an_encoder(supernet, monkeypatch):
    batches = text((5, 4), (6, 7))
    archs = [WIDE.sample(np.random.default_rng(seed)) for seed in range(4)]
    other = WIDE.sample(np.random.default_rng(9))
    # The first one's encoder with another decoder, if that decoder sees no more layers than exist.
    archs.append(
        archs[0]._replace(
            **{name: getattr(other, name) for name in ("decoder_top_k", "decoder_ffn_dims")}
        )
    )
    looked, traced = [], []
    make = evaluator.make_programs

    def counted(*arguments):
        look, judge = make(*arguments)
        traced.extend((look, judge))
        return lambda *inputs: looked.append(inputs) or look(*inputs), judge

    monkeypatch.setattr(evaluator, "make_programs", counted)
    score = evaluator.scorer(supernet, ForwardOptions(), batches, 1000, 0.0)
    found = [one.loss for one in score([Trial(arch) for arch in archs])]
    run = quick_jit(forward)
    for arch, loss in zip(archs, found, strict=True):
        total = tokens = 0.0
        for batch in batches:
            target = jnp.asarray(batch["target"])
            log_p = jax.nn.log_softmax(
                run(supernet, arch, batch["source"], shift_right(target, PAD))
            )
            total -= float(
                jnp.sum(jnp.take_along_axis(log_p, target[..., None], -1)[..., 0] * (target != PAD))
            )
            tokens += int(jnp.sum(target != PAD))
        assert loss == pytest.approx(total / tokens, rel=2e-5)
    assert len(looked) == 4 * 2 * evaluator.PARTS, "four encoders, in parts of two buckets"
    assert [program._cache_size() for program in traced] == [
        2,
        2,
    ], "one compilation for each bucket"


@pytest.mark.parametrize("standard_errors", [3.0, 5.0])
def test_a_search_with_stopping_finds_the_same(supernet, standard_errors):
    """On real losses: parents, front and best candidate are equal."""
    batches = text((40, 4), (40, 7))
    settings = SearchConfig(iterations=3, population=16, parents=4, mutations=8, crossovers=8)
    whole, early = (
        evolve(
            WIDE,
            dataclasses.replace(settings, stop_early=errors),
            score=evaluator.scorer(supernet, ForwardOptions(), batches, 1000, errors),
            cost=cost_function(Conditions(settings, TOP_K)),
            seed=0,
        )
        for errors in (0.0, standard_errors)
    )
    assert [one.arch for one in early] == [one.arch for one in whole]
    assert best(early) == best(whole)
    assert pareto_front(early) == pareto_front(whole)
    assert any(not one.complete for one in early)
    for a, b in zip(early, whole, strict=True):
        assert a == b if a.complete else a.loss == pytest.approx(b.loss, rel=0.2)


def test_the_encoder_key_holds_nothing_of_the_decoder(supernet):
    a, b = (WIDE.sample(np.random.default_rng(seed)) for seed in (0, 1))
    mixed = b._replace(
        **{name: getattr(a, name) for name in a._fields if name.startswith("encoder_")}
    )
    assert evaluator.encoder_genes(supernet.spec, mixed) == evaluator.encoder_genes(
        supernet.spec, a
    )
    assert evaluator.encoder_genes(supernet.spec, a) != evaluator.encoder_genes(supernet.spec, b)
