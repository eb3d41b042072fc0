"""A classifier: an encoder without a decoder, masked and extracted, trained in a few updates, and
its predictions.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.config import TrainConfig
from automoe_jax.costs import costs
from automoe_jax.data.batching import TokenPairs, train_batches
from automoe_jax.data.tokenizer import SPECIAL_IDS
from automoe_jax.errors import UserError
from automoe_jax.extract import extract
from automoe_jax.inference.classify import classify
from automoe_jax.model.network import initialised
from automoe_jax.model.transformer import ForwardOptions, Memory, _pooled, apply
from automoe_jax.space import SearchSpace
from automoe_jax.train.loop import DROPOUT_RNG
from automoe_jax.train.step import init_state, make_train_step
from tests.oracles import SPACE, inside, quick_jit, random_network

VOCAB, PAD, CLASSES = 30, 1, len(SPECIAL_IDS) + 3
ENCODERS = dataclasses.replace(
    SPACE, encoder_embed_dims=(8, 16), decoder_embed_dims=(16,), decoder_layers=(0,)
)
# its smallest architecture skips everything but the embeddings and the classifier
SKIPPING = dataclasses.replace(
    ENCODERS, encoder_self_heads=(0, 1, 2), encoder_experts=(0, 1, 2), encoder_embed_dims=(16,)
)
RNG = np.random.default_rng(0)
SOURCE = np.where(np.arange(7) < np.array([[7], [4], [1]]), RNG.integers(4, VOCAB, (3, 7)), PAD)
UNREAD = np.full((3, 1), PAD)
COTANGENT = jnp.asarray(RNG.normal(size=(3, 1, CLASSES)), jnp.float32)


def logits(network, arch, source):
    return apply(network, arch, source, UNREAD).logits


def gradient(network, arch, source):
    return jax.grad(
        lambda network: jnp.sum(logits(network, arch, source) * COTANGENT), allow_int=True
    )(network)


@pytest.mark.parametrize("space", [ENCODERS, SKIPPING], ids=["all blocks", "skipped blocks"])
def test_masked_equals_extracted_and_nothing_else_has_a_gradient(space: SearchSpace) -> None:
    network, rng = random_network(space, VOCAB, classes=CLASSES), np.random.default_rng(1)
    masked, masked_gradient = quick_jit(logits), quick_jit(gradient)
    before = masked._cache_size()  # which the jits of one function share
    for arch in (space.largest(), space.smallest(), space.sample(rng), space.sample(rng)):
        cut = extract(network, arch)
        found = masked(network, arch, SOURCE)
        assert found.shape == (3, 1, CLASSES)
        np.testing.assert_allclose(found, logits(cut, arch, SOURCE), atol=2e-5)
        whole, exact = masked_gradient(network, arch, SOURCE), gradient(cut, arch, SOURCE)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                a, b, atol=2e-5 * max(1.0, float(jnp.abs(b).max()))
            ),
            extract(whole, arch),
            exact,
        )
        for leaf, kept in zip(jax.tree.leaves(whole), inside(whole, arch), strict=True):
            assert not np.any(np.asarray(leaf)[~kept])
    assert masked._cache_size() == before + 1


def test_states_are_averaged_over_the_real_tokens() -> None:
    states = RNG.normal(size=(3, 7, 16)).astype(np.float32)
    found = _pooled(
        Memory(jnp.asarray(states), jnp.asarray(SOURCE != PAD), jnp.zeros(3, jnp.uint32))
    )
    expected = [
        row[: int(np.sum(tokens != PAD))].mean(axis=0)
        for row, tokens in zip(states, SOURCE, strict=True)
    ]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_padding_changes_nothing() -> None:
    network = random_network(ENCODERS, VOCAB, arch=ENCODERS.largest(), classes=CLASSES)
    longer = np.pad(SOURCE, ((0, 1), (0, 3)), constant_values=PAD)
    found = logits(network, ENCODERS.largest(), longer[:3])
    np.testing.assert_allclose(found, logits(network, ENCODERS.largest(), SOURCE), atol=2e-5)


def labelled(count: int) -> TokenPairs:
    """Texts of 3 to 9 tokens whose class is that of the rarest kind of token in them."""
    rng = np.random.default_rng(5)
    lengths, kinds = rng.integers(3, 10, count), rng.integers(3, size=count)
    texts = [
        np.concatenate([rng.integers(10, VOCAB, length - 1), [4 + kind]])
        for length, kind in zip(lengths, kinds, strict=True)
    ]
    offsets = np.cumsum([0, *lengths])
    return TokenPairs(
        np.concatenate(texts).astype(np.int32),
        offsets,
        (4 + kinds).astype(np.int32),
        np.arange(count + 1),
        np.array(True),
    )


@pytest.mark.parametrize("passes", [1, 2])
def test_it_learns_and_answers_in_the_order_of_the_texts(passes: int) -> None:
    space = SearchSpace(16, (16,), (16,), (1,), (0,), (2,), (2,), (2,), (1,), (2,), (1,), (32,))
    spec = dataclasses.replace(
        random_network(space, VOCAB, classes=CLASSES).spec, arch=space.largest()
    )
    train = TrainConfig(
        steps=80,
        learning_rate=1e-2,
        warmup_steps=10,
        passes=passes,
        consistency=float(passes == 2),
        label_smoothing=0.0,
    )
    state, step = (
        init_state(initialised(spec, jax.random.key(0)), train),
        make_train_step(spec, train, ForwardOptions()),
    )
    batches, archs = (
        train_batches(labelled(300), (12,), 768, 0),
        jax.tree.map(lambda field: field[None], space.largest()),
    )
    for _ in range(train.steps):
        batch = {side: tokens[None] for side, tokens in next(batches).items()}
        assert batch["target"].shape == (1, 64, 1)
        state, metrics = step(state, batch, archs, jax.random.key(0, impl=DROPOUT_RNG))
    assert metrics.tokens == 64
    assert metrics.nll < 0.1
    test, done = labelled(50), []
    network = dataclasses.replace(initialised(spec, jax.random.key(0)), params=state.params)
    answers = classify(network, test, buckets=(6, 12), tokens_per_batch=60, progress=done.append)
    assert sum(done) == 50
    assert np.mean(answers == test.target_tokens) > 0.95


def test_costs_are_those_of_the_encoder() -> None:
    arch, with_decoder = (
        ENCODERS.largest(),
        dataclasses.replace(ENCODERS, decoder_layers=(1,)).largest(),
    )
    assert arch.decoder_layers == 0
    found, whole = costs(arch, 20, 10, CLASSES), costs(with_decoder, 20, 10, CLASSES)
    assert found.flops == costs(arch, 20, 30, CLASSES).flops < whole.flops
    assert found.flops_with_vocabulary - found.flops == 2 * 16 * CLASSES
    network = random_network(ENCODERS, VOCAB, arch=arch, classes=CLASSES)
    others = network.params["embedding"]["table"].size + network.params["classifier"]["table"].size
    assert found.params + others == sum(leaf.size for leaf in jax.tree.leaves(network.params))


def test_without_a_decoder_is_the_only_choice() -> None:
    with pytest.raises(UserError, match=r"space.decoder_layers=\(0, 1\) .* leave out the others"):
        dataclasses.replace(ENCODERS, decoder_layers=(0, 1))
    assert type(ENCODERS.largest()).from_json(ENCODERS.largest().to_json()) == ENCODERS.largest()
