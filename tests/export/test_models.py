"""The ONNX models compute what the JAX networks compute."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automoe_jax.data.tokenizer import EOS
from automoe_jax.errors import UserError
from automoe_jax.export import beam, models, parts
from automoe_jax.export.beam import IMPOSSIBLE
from automoe_jax.export.network import inputs_of
from automoe_jax.export.settings import INT8, sinusoids
from automoe_jax.extract import extract
from automoe_jax.inference.decode import beam_search
from automoe_jax.inference.engine.hypotheses import Records, finished
from automoe_jax.inference.engine.session import run, session
from automoe_jax.model import Network, forward, transformer
from automoe_jax.routers import RouterConfig
from tests.oracles import SPACE, quick_jit, random_network

VOCAB, PAD = 30, 1
BUCKETS = (16,)
ROUTERS = {
    "top-k": RouterConfig(),
    "received": RouterConfig(kind="importance"),
    "given, raw gates": RouterConfig(kind="importance", importance="given", renormalise=False),
    "relative, received": RouterConfig(kind="importance", importance="relative_received"),
    "relative, given": RouterConfig(kind="importance", importance="relative_given"),
    "gates of one": RouterConfig(gate="one"),
    "random by token": RouterConfig(kind="random", seed=3),
    "random by sentence": RouterConfig(kind="random", inference="sentence"),
    "mean": RouterConfig(kind="random", inference="mean"),
    "by word": RouterConfig(kind="random", draw="fixed"),
}
RNG = np.random.default_rng(0)
SOURCE = RNG.integers(4, VOCAB, (3, 9))
SOURCE[:, -1] = EOS
SOURCE[1, 4:], SOURCE[2, 2:] = PAD, PAD
TARGET_INPUT = RNG.integers(4, VOCAB, (3, 6))
TARGET_INPUT[:, 0] = EOS
masked_forward = quick_jit(forward)


def integers(model: onnx.ModelProto) -> Iterator[np.ndarray]:
    """The int8 weights of a model, those of its loops and branches included."""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        found = [one for one in graph.initializer if one.data_type == onnx.TensorProto.INT8]
        yield from (onnx.numpy_helper.to_array(one) for one in found if one.dims)
        for node in graph.node:
            graphs += [one.g for one in node.attribute if one.type == onnx.AttributeProto.GRAPH]


def feeds(beams: int, pieces: tuple[int, ...] = (), **own: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of a translator."""
    return {
        "source": SOURCE,
        "beams": np.array(beams),
        "max_length": np.array(12),
        "stop": np.array(beams),
        "pieces": np.array(pieces, np.int64),
        "own": np.ones((len(SOURCE), len(pieces)), bool),
        "explain": np.array(False),
    } | own


@functools.cache
def supernet(name: str) -> Network:
    return random_network(SPACE, VOCAB, router=ROUTERS[name])


def outputs(model: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(model)
    return run(session(model.SerializeToString(), threads=1), feeds)


@pytest.mark.parametrize("name", ROUTERS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**16))
def test_logits_are_those_of_jax(name: str, seed: int) -> None:
    """Decisions of a router within rounding of a tie are too rare to be met."""
    network = supernet(name)
    arch = SPACE.sample(np.random.default_rng(seed))
    expected = np.asarray(masked_forward(network, arch, SOURCE, TARGET_INPUT))
    inputs = inputs_of(extract(network, arch), BUCKETS)
    (found,) = outputs(models.scorer(*inputs), source=SOURCE, target_input=TARGET_INPUT)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "pre"},
        {"shared_embeddings": "decoder", "target_vocab_size": 25},
        {"shared_embeddings": "none", "norm": "pre"},
    ],
    ids=str,
)
def test_logits_of_other_networks_are_those_of_jax(options: dict[str, Any]) -> None:
    arch = SPACE.largest()
    network = random_network(SPACE, VOCAB, arch=arch, **options)
    target = 4 + TARGET_INPUT % 21
    expected = np.asarray(masked_forward(network, arch, SOURCE, target))
    model = models.scorer(*inputs_of(network, BUCKETS))
    (found,) = outputs(model, source=SOURCE, target_input=target)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["top-k", "received", "random by token", "mean"])
def test_classes_are_those_of_jax(name: str) -> None:
    space = dataclasses.replace(SPACE, decoder_embed_dims=(16,), decoder_layers=(0,))
    arch = space.sample(np.random.default_rng(1))
    network = random_network(space, VOCAB, arch=arch, router=ROUTERS[name], classes=7)
    unread = np.full((3, 1), PAD)
    expected = np.asarray(forward(network, arch, SOURCE, unread))[:, 0]
    (found,) = outputs(models.classifier(*inputs_of(network, BUCKETS)), source=SOURCE)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("name", ["top-k", "random by token"])
def test_beam_search_is_that_of_jax(name: str, beams: int) -> None:
    arch = SPACE.sample(np.random.default_rng(beams))
    network = extract(supernet(name), arch)
    tokens, scores = jax.tree.map(
        np.asarray, beam_search(network, SOURCE, beam_size=beams, max_length=12)
    )
    model = models.translator(*inputs_of(network, BUCKETS))
    records = Records(*outputs(model, **feeds(beams)))
    for b, hypotheses in enumerate(finished(records, beams, 0.6, EOS, best=beams)):
        for i, hypothesis in enumerate(hypotheses):
            expected = tokens[b, i][: int(np.argmax(tokens[b, i] == EOS))]
            np.testing.assert_array_equal(hypothesis.tokens, expected)
            np.testing.assert_allclose(hypothesis.score, scores[b, i], rtol=1e-5)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("size", [41, 64])
def test_groups_of_words_hold_the_best(
    monkeypatch: pytest.MonkeyPatch, size: int, short: bool
) -> None:
    """Vocabularies of many words are searched in groups, of which the last may be filled up; a
    shortlist is not.
    """
    monkeypatch.setattr(parts, "_FEW_WORDS", 40)
    monkeypatch.setattr(parts, "WORD_GROUP", 8)
    monkeypatch.setattr(beam, "WORD_GROUP", 8)
    arch = SPACE.sample(np.random.default_rng(0))
    network = random_network(SPACE, size, arch=arch)
    tokens, scores = jax.tree.map(
        np.asarray, beam_search(network, SOURCE, beam_size=3, max_length=12)
    )
    model = models.translator(*inputs_of(network, BUCKETS))
    pieces = tuple(range(size)) if short else ()
    found = finished(Records(*outputs(model, **feeds(3, pieces))), 3, 0.6, EOS)
    for b, (hypothesis,) in enumerate(found):
        expected = tokens[b, 0][: int(np.argmax(tokens[b, 0] == EOS))]
        np.testing.assert_array_equal(hypothesis.tokens, expected)
        np.testing.assert_allclose(hypothesis.score, scores[b, 0], rtol=1e-5)


@pytest.mark.parametrize(("precision", "own"), [("float32", 0), ("int8", 0), ("int8", 25)], ids=str)
def test_a_shortlist_of_all_pieces_is_the_full_search(precision: str, own: int) -> None:
    """own: number of target pieces of separate vocabularies, or 0."""
    separate: dict[str, Any] = {"shared_embeddings": "none", "target_vocab_size": own}
    options = separate if own else {}
    network = random_network(SPACE, VOCAB, arch=SPACE.largest(), **options)
    run_model = session(
        models.translator(*inputs_of(network, BUCKETS, precision)).SerializeToString(), threads=1
    )
    full = Records(*run(run_model, feeds(3)))
    short = Records(*run(run_model, feeds(3, tuple(range(own or VOCAB)))))
    np.testing.assert_array_equal(short.tokens, full.tokens)
    np.testing.assert_array_equal(short.origins, full.origins)
    np.testing.assert_allclose(short.scores, full.scores, rtol=1e-6)


def test_a_shortlist_is_a_softmax_over_its_pieces() -> None:
    """Each sentence has its own pieces, and its translation is the same in every batch."""
    network = extract(supernet("top-k"), SPACE.largest())
    run_model = session(
        models.translator(*inputs_of(network, BUCKETS)).SerializeToString(), threads=1
    )
    pieces = (EOS, 5, 8, 9, 11, 20, 21, 22, 29)
    own = np.ones((3, len(pieces)), bool)
    own[0, 2:4], own[1, 5:] = False, False
    together = Records(*run(run_model, feeds(2, pieces, own=own)))
    for b in range(3):
        alone = feeds(2, tuple(np.array(pieces)[own[b]]))
        alone |= {"source": SOURCE[b : b + 1], "own": alone["own"][:1]}
        expected = Records(*run(run_model, alone))
        steps = len(expected.tokens)
        exists = expected.scores[:, 0] > IMPOSSIBLE / 2
        np.testing.assert_array_equal(
            together.tokens[:steps, b][exists], expected.tokens[:, 0][exists]
        )
        np.testing.assert_allclose(
            together.scores[:steps, b][exists], expected.scores[:, 0][exists], rtol=1e-5
        )
        assert set(expected.tokens[:, 0][exists].tolist()) <= set(np.array(pieces)[own[b]].tolist())


def test_int8_is_nearly_float32() -> None:
    network = extract(supernet("top-k"), SPACE.largest_dense())
    texts = {"source": SOURCE, "target_input": TARGET_INPUT}
    ((exact,), (rounded,)) = (
        outputs(models.scorer(*inputs_of(network, BUCKETS, precision)), **texts)
        for precision in ("float32", INT8)
    )
    difference = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-5 < difference < 0.1


@pytest.mark.parametrize("make", [models.scorer, models.translator])
def test_two_products_in_int8_fit_in_16_bits(make: Callable[..., onnx.ModelProto]) -> None:
    """A processor without VNNI adds two of them so."""
    network = extract(supernet("top-k"), SPACE.largest())
    largest = [
        np.abs(x.astype(int)).max() for x in integers(make(*inputs_of(network, BUCKETS, INT8)))
    ]
    assert len(largest) > 10
    assert 2 * 255 * max(largest) < 2**15


def test_integers_are_the_nearest_to_the_weights() -> None:
    kernel = RNG.normal(size=(40, 7)) * np.arange(7)
    values, scales = parts.quantised(kernel)
    assert np.abs(values).max(axis=0).tolist() == [0, 64, 64, 64, 64, 64, 64]
    assert (np.abs(values * scales - kernel) <= 0.501 * scales).all()


def test_an_unknown_router_has_no_graph() -> None:
    arch = SPACE.largest()
    sub, facts, weights = inputs_of(extract(supernet("top-k"), arch), BUCKETS)
    facts = dataclasses.replace(facts, router=RouterConfig(kind="mine"))
    with pytest.raises(UserError, match=r"config\.router\.kind='mine' must be one of topk"):
        models.translator(sub, facts, weights)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 9])
def test_sinusoids_are_those_of_the_model(width: int) -> None:
    found = sinusoids(7, width, PAD)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, transformer.sinusoids(7, width, PAD))
