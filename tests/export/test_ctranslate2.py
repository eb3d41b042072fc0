"""CTranslate2 translates like the engine, where it can express the architecture."""

import dataclasses
import pathlib
import re
import sys
from collections.abc import Iterable

import jax
import numpy as np
import pytest

from automoe_jax.arch import Arch
from automoe_jax.data.tokenizer import EOS
from automoe_jax.errors import UserError
from automoe_jax.export.ctranslate2 import to_ctranslate2
from automoe_jax.export.network import inputs_of
from automoe_jax.export.settings import Settings
from automoe_jax.inference.decode import translate_ids
from automoe_jax.model import Network, forward
from automoe_jax.space import SearchSpace
from tests.oracles import random_network

VOCAB, TARGET_VOCAB, LENGTH, COMPARED = 40, 30, 16, 10
# Q is neither side's width, the widths are cut from wider sinusoids, and FFN widths differ.
SPACE = SearchSpace(
    qkv_dim=24,
    encoder_embed_dims=(16, 20),
    decoder_embed_dims=(12, 20),
    encoder_layers=(2,),
    decoder_layers=(2,),
    encoder_self_heads=(2, 4),
    decoder_self_heads=(2, 4),
    decoder_cross_heads=(2, 4),
    cross_layers=(1, 2),
    encoder_experts=(1, 2),
    decoder_experts=(1, 2),
    expert_ffn_dims=(0, 8, 32),
)
SETTINGS = Settings(VOCAB, 20, 20, LENGTH, LENGTH)


def arch(side: str = "", layer: int = 0, **changed: object) -> Arch:
    """An architecture that CTranslate2 expresses, with a change in one layer."""
    record = {
        "qkv_dim": 24,
        "encoder": {
            "embed_dim": 16,
            "layers": [{"self_heads": 2, "expert_ffn_dims": [f], "top_k": 1} for f in (8, 32)],
        },
        "decoder": {
            "embed_dim": 12,
            "layers": [
                {
                    "self_heads": 4,
                    "cross_heads": 4,
                    "cross_layers": 1,
                    "expert_ffn_dims": [f],
                    "top_k": 1,
                }
                for f in (32, 8)
            ],
        },
    }
    if side:
        record[side]["layers"][layer] |= changed  # type: ignore[index]
    return Arch.from_dict(record)


def pieces(size: int) -> list[str]:
    return ["<s>", "<pad>", "</s>", "<unk>", *(f"piece{i}" for i in range(4, size))]


def files(network: Network) -> dict[str, bytes]:
    spec = network.spec
    sizes = (spec.vocab_size, spec.target_size)
    return to_ctranslate2(*inputs_of(network, (LENGTH,)), *map(pieces, sizes))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "pre"},
        {"shared_embeddings": "none", "target_vocab_size": TARGET_VOCAB},
    ],
    ids=["shared", "pre", "separate"],
)
def test_probabilities_and_translations_are_equal(
    options: dict[str, object], tmp_path: pathlib.Path
) -> None:
    """Log probabilities of given targets, and greedy translations as far as they are compared."""
    ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra ctranslate2 is missing")
    network = random_network(SPACE, VOCAB, arch=arch(), **options)
    for name, content in files(network).items():
        (tmp_path / name).write_bytes(content)
    translator = ctranslate2.Translator(str(tmp_path), device="cpu", intra_threads=1)
    rng, size = np.random.default_rng(1), network.spec.target_size
    sources, targets = rng.integers(4, VOCAB, (6, 7)), rng.integers(4, size, (6, 5))
    ends = np.full((6, 1), EOS)
    wanted = np.concatenate([targets, ends], axis=1)
    logits = forward(
        network,
        arch(),
        np.concatenate([sources, ends], axis=1),
        np.concatenate([ends, targets], axis=1),
    )
    expected = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), wanted[..., None], -1)
    lines, outputs = named(sources, VOCAB), named(targets, size)
    scored = [one.log_probs for one in translator.score_batch(lines, outputs)]
    np.testing.assert_allclose(scored, expected[..., 0], atol=1e-5)
    ours = translate_ids(
        network,
        list(sources.astype(np.int32)),
        buckets=(LENGTH,),
        batch_sizes=(8,),
        beam_size=1,
        length_penalty=1.0,
    )
    theirs = translator.translate_batch(
        lines,
        beam_size=1,
        min_decoding_length=0,
        max_decoding_length=COMPARED,
        suppress_sequences=[["<s>"], ["<pad>"]],
    )
    assert [one.hypotheses[0] for one in theirs] == named([one[:COMPARED] for one in ours], size)
    assert len({tuple(one) for one in ours}) > 2


def named(rows: Iterable[np.ndarray], size: int) -> list[list[str]]:
    """The pieces of rows of ids."""
    return [[pieces(size)[token] for token in row] for row in rows]


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (arch("decoder", 1, expert_ffn_dims=[8, 8]), "decoder.layers[1].expert_ffn_dims=[8, 8]"),
        (arch("encoder", 0, expert_ffn_dims=[0]), "encoder.layers[0].expert_ffn_dims=[0]"),
        (arch("encoder", 1, expert_ffn_dims=[]), "encoder.layers[1].expert_ffn_dims=[]"),
        (arch("encoder", 0, self_heads=0), "encoder.layers[0].self_heads=0"),
        (arch("encoder", 1, self_heads=4), "encoder.layers[1].self_heads=4"),
        (arch("decoder", 1, cross_heads=2), "decoder.layers[1].cross_heads=2"),
        (arch("decoder", 0, cross_layers=2), "decoder.layers[0].cross_layers=2"),
    ],
)
def test_what_it_cannot_express_is_refused_by_the_field(other: Arch, field: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"CTranslate2 cannot express {field}: ")):
        to_ctranslate2(other, SETTINGS, {}, [], [])


def test_a_classifier_is_refused() -> None:
    with pytest.raises(UserError, match=r"config\.task='classify': it translates only"):
        to_ctranslate2(arch(), dataclasses.replace(SETTINGS, classes=7), {}, [], [])


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UserError, match=r"pip install 'automoe_jax\[ctranslate2\]'"):
        files(random_network(SPACE, VOCAB, arch=arch()))
