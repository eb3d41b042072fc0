"""Invalid arguments of the library's calls: sentences instead of tracebacks or numbers."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.errors import UserError
from automoe_jax.extract import extract
from automoe_jax.model import Spec, forward, init
from automoe_jax.model.transformer import sinusoids
from automoe_jax.space import SearchSpace
from tests.oracles import random_network

VOCAB = 20
SPACE = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16,),
    decoder_embed_dims=(16,),
    encoder_layers=(1,),
    decoder_layers=(1,),
    encoder_experts=(1, 2),
    decoder_experts=(1,),
    expert_ffn_dims=(16,),
)
NETWORK = random_network(SPACE, VOCAB)
ARCH = SPACE.largest()
FOREIGN = dataclasses.replace(SPACE, encoder_layers=(2,)).largest()


def ids(*shape: int) -> np.ndarray:
    return np.full(shape, 5)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (ids(0, 4), ids(0, 4), r"source has the shape \(0, 4\); it must hold at least one"),
        (ids(2, 0), ids(2, 4), r"source has the shape \(2, 0\); it must hold at least one"),
        (ids(2, 4), ids(2, 0), r"target_input has the shape \(2, 0\); it must hold at least one"),
        (ids(4), ids(2, 4), r"source has the shape \(4,\); .* a single sentence is source\[None\]"),
        (ids(2, 4), ids(2, 4, 1), r"target_input has the shape \(2, 4, 1\)"),
        (ids(2, 4), ids(1, 4), "target_input has 1 sentences and source 2; they must be pairs"),
        (ids(1, 4), ids(3, 4), "target_input has 3 sentences and source 1; they must be pairs"),
        (ids(2, 4) * 1.0, ids(2, 4), "source holds float(32|64); token ids must be integers"),
    ],
)
def test_shapes(source: np.ndarray, target: np.ndarray, message: str, jitted: bool) -> None:
    run = jax.jit(forward) if jitted else forward
    with pytest.raises(UserError, match=message):
        run(NETWORK, ARCH, source, target)


@pytest.mark.parametrize("side", ["source", "target_input"])
@pytest.mark.parametrize("wrong", [VOCAB, -1])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_token_ids_are_pieces_of_the_vocabulary(side: str, wrong: int, array: Any) -> None:
    tokens = {"source": ids(1, 3), "target_input": ids(1, 3)}
    tokens[side][0, 1] = wrong
    given = {name: array(value) for name, value in tokens.items()}
    with pytest.raises(UserError, match=rf"{side} holds the token id {wrong}, .* \[0, {VOCAB}\)"):
        forward(NETWORK, ARCH, **given)
    tokens[side][0, 1] = VOCAB - 1
    assert np.isfinite(forward(NETWORK, ARCH, **tokens)).all()


def test_token_ids_that_are_constants_of_a_compiled_function_are_known() -> None:
    tokens = jnp.asarray(ids(1, 3))
    wrong = tokens.at[0, 1].set(VOCAB)
    compiled = jax.jit(lambda network, source: forward(network, ARCH, source, tokens))
    assert compiled(NETWORK, tokens).shape == (1, 3, VOCAB)
    with pytest.raises(UserError, match=f"target_input holds the token id {VOCAB}"):
        jax.jit(lambda network: forward(network, ARCH, tokens, wrong))(NETWORK)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (FOREIGN, "is not in the search space"),
        (None, "must be an automoe_jax.arch.Arch, got None"),
        (ARCH.to_dict(), "must be an automoe_jax.arch.Arch, got {"),
        (ARCH._replace(cross_layers=np.zeros(3, np.int32)), "the field cross_layers"),
    ],
)
def test_architectures(arch: Any, message: str) -> None:
    for call in (
        lambda: forward(NETWORK, arch, ids(1, 3), ids(1, 3)),
        lambda: jax.jit(lambda network: forward(network, arch, ids(1, 3), ids(1, 3)))(NETWORK),
        lambda: extract(NETWORK, arch),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_a_traced_architecture_has_its_shapes_checked_and_cannot_be_cut_out() -> None:
    short = ARCH._replace(decoder_top_k=ARCH.decoder_top_k[:2])
    with pytest.raises(UserError, match="the field decoder_top_k"):
        jax.jit(forward)(NETWORK, short, ids(1, 3), ids(1, 3))
    with pytest.raises(UserError, match="the architecture is traced"):
        jax.jit(extract)(NETWORK, ARCH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0 must be a whole number of at least 1"),
        ({"vocab_size": 9.5}, "vocab_size=9.5 must be a whole number"),
        ({"classes": -1}, "classes=-1 must be a whole number of at least 0"),
        ({"pad_id": VOCAB}, "pad_id=20 must be a piece of the vocabulary"),
        ({"arch": "largest"}, "must be an automoe_jax.arch.Arch, got 'largest'"),
        (
            {"arch": dataclasses.replace(SPACE, qkv_dim=8).largest()},
            "has qkv_dim=8 .* its space qkv_dim=16",
        ),
        (
            {"arch": dataclasses.replace(SPACE, encoder_embed_dims=(24,)).largest()},
            r"the embedding widths \(24, 16\), .* at most \(16, 16\)",
        ),
    ],
)
def test_sizes_of_a_network(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        init(SPACE, **{"vocab_size": VOCAB, "key": jax.random.key(0)} | options)
    with pytest.raises(UserError, match=message):
        Spec(SPACE, **{"vocab_size": VOCAB} | options)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_narrow_embeddings_are_finite(width: int) -> None:
    assert np.isfinite(sinusoids(6, width, pad_id=1)).all()
    space = SearchSpace(
        **dict.fromkeys(("encoder_embed_dims", "decoder_embed_dims"), (width,)),
        **dict.fromkeys(("encoder_layers", "decoder_layers", "cross_layers"), (1,)),
        **dict.fromkeys(("encoder_experts", "decoder_experts"), (1,)),
        qkv_dim=4,
        encoder_self_heads=(1,),
        decoder_self_heads=(1,),
        decoder_cross_heads=(1,),
        expert_ffn_dims=(4,),
    )
    network = init(space, VOCAB, jax.random.key(0))
    logits = forward(network, space.largest(), ids(2, 3), ids(2, 3))
    assert np.isfinite(logits).all()


def test_wide_sinusoids_stay_as_they_were() -> None:
    table = sinusoids(5, 8, pad_id=1)
    rate = np.exp(np.arange(4) * -np.log(10000.0) / 3)
    np.testing.assert_allclose(table[3], [*np.sin(3 * rate), *np.cos(3 * rate)], rtol=1e-6)
