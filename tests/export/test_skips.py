"""The ONNX models of networks whose layers skip blocks compute what the JAX networks compute."""

import functools

import jax
import numpy as np
import pytest

from automoe_jax.data.tokenizer import EOS
from automoe_jax.export import models
from automoe_jax.export.network import inputs_of
from automoe_jax.export.settings import INT8, PRECISIONS
from automoe_jax.export.untrained import untrained
from automoe_jax.inference.decode import beam_search
from automoe_jax.inference.engine.hypotheses import Records, finished
from automoe_jax.model import Network, forward
from automoe_jax.routers import RouterConfig
from tests.export.test_models import BUCKETS, SOURCE, TARGET_INPUT, VOCAB, feeds, outputs
from tests.export.test_untrained import shapes
from tests.model.test_skips import ARCHS, SKIPPING
from tests.oracles import quick_jit, random_network

SAMPLED = [SKIPPING.sample(np.random.default_rng(seed)) for seed in range(3)]
ALL = [*ARCHS.values(), *SAMPLED]
TOP_K, RANDOM = RouterConfig(), RouterConfig(kind="random", seed=3)


@functools.cache
def network(number: int, router: RouterConfig = TOP_K) -> Network:
    return random_network(SKIPPING, VOCAB, arch=ALL[number], router=router)


@pytest.mark.parametrize("number", range(len(ALL)))
def test_logits_are_those_of_jax(number: int) -> None:
    router = RANDOM if number % 2 else TOP_K
    one = network(number, router)
    expected = np.asarray(quick_jit(forward)(one, ALL[number], SOURCE, TARGET_INPUT))
    inputs = inputs_of(one, BUCKETS)
    (found,) = outputs(models.scorer(*inputs), source=SOURCE, target_input=TARGET_INPUT)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_beam_search_is_that_of_jax(number: int) -> None:
    one = network(number)
    tokens, scores = jax.tree.map(np.asarray, beam_search(one, SOURCE, beam_size=2, max_length=12))
    model = models.translator(*inputs_of(one, BUCKETS))
    records = Records(*outputs(model, **feeds(2)))
    for b, hypotheses in enumerate(finished(records, 2, 0.6, EOS, best=2)):
        for i, hypothesis in enumerate(hypotheses):
            expected = tokens[b, i][: int(np.argmax(tokens[b, i] == EOS))]
            np.testing.assert_array_equal(hypothesis.tokens, expected)
            np.testing.assert_allclose(hypothesis.score, scores[b, i], rtol=1e-5)


@pytest.mark.parametrize("number", range(len(ALL)))
def test_int8_is_nearly_float32(number: int) -> None:
    one = network(number, RANDOM)  # routes that rounding cannot change
    texts = {"source": SOURCE, "target_input": TARGET_INPUT}
    ((exact,), (rounded,)) = (
        outputs(models.scorer(*inputs_of(one, BUCKETS, precision)), **texts)
        for precision in PRECISIONS
    )
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_int8_with_a_shortlist_of_all_pieces_is_the_full_search(number: int) -> None:
    model = models.translator(*inputs_of(network(number), BUCKETS, INT8))
    full = Records(*outputs(model, **feeds(2)))
    short = Records(*outputs(model, **feeds(2, tuple(range(VOCAB)))))
    np.testing.assert_array_equal(short.tokens, full.tokens)
    np.testing.assert_array_equal(short.origins, full.origins)
    np.testing.assert_allclose(short.scores, full.scores, rtol=1e-6)


@pytest.mark.parametrize("number", range(len(ALL)))
def test_explanations_are_of_the_blocks_that_exist(number: int) -> None:
    arch = ALL[number]
    model = models.translator(*inputs_of(network(number), BUCKETS))
    records = Records(*outputs(model, **feeds(2, explain=np.array(True))))
    steps, sentences = records.scores.shape[:2]
    places = SOURCE.shape[1]
    assert records.attention.shape == (steps, sentences, 2 * places)
    attention = records.attention[0, 0].reshape(2, places)[0]
    layers = [i for i, seen in enumerate(arch.cross_layers.tolist()) if seen > 0][-2:]
    np.testing.assert_allclose(attention.sum(), 1, rtol=1e-5)
    assert layers
    assert records.gates.shape[-1] == 2 * sum(map(len, arch.decoder_experts))
    assert records.source_gates.shape == (3, places, sum(map(len, arch.encoder_experts)))


@pytest.mark.parametrize("number", range(len(ALL)))
def test_untrained_weights_have_the_models_shapes(number: int) -> None:
    exact, settings, weights = inputs_of(network(number), BUCKETS)
    assert shapes(untrained(exact, settings)) == shapes(weights)
