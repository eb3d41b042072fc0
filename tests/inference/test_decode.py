"""Cached decoding against teacher forcing; beam search against every possible sentence; batches of
sentences.
"""

import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax import arch as arch_lib
from automoe_jax.data.tokenizer import BOS, EOS, PAD, UNK
from automoe_jax.errors import UserError
from automoe_jax.extract import extract
from automoe_jax.inference import decode
from automoe_jax.inference.decode import IMPOSSIBLE, beam_search, translate_ids, translate_lines
from automoe_jax.model import Network, forward, init
from automoe_jax.model.transformer import start_decoding
from automoe_jax.ops.grouped import use_backend
from automoe_jax.space import SearchSpace
from tests.oracles import SPACE, quick_jit, random_network, step_by_step

VOCAB, B, S, T = 30, 2, 5, 4
SIX_EXPERTS = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16,),
    decoder_embed_dims=(16,),
    encoder_layers=(1,),
    decoder_layers=(1,),
    encoder_self_heads=(1,),
    decoder_self_heads=(1,),
    decoder_cross_heads=(1,),
    cross_layers=(1,),
    encoder_experts=(1,),
    decoder_experts=(6,),
    expert_ffn_dims=(8,),
)
ARCHS = {
    "two layers, experts, two encoder layers seen": {
        "decoder_embed_dim": 8,
        "encoder": [
            {"self_heads": 1, "expert_ffn_dims": [8], "top_k": 1},
            {"self_heads": 2, "expert_ffn_dims": [0, 16, 8], "top_k": 2},
        ],
        "decoder": [
            {
                "self_heads": 2,
                "cross_heads": 1,
                "cross_layers": 2,
                "expert_ffn_dims": [0, 16, 8],
                "top_k": 2,
            },
            {
                "self_heads": 1,
                "cross_heads": 2,
                "cross_layers": 1,
                "expert_ffn_dims": [0],
                "top_k": 1,
            },
        ],
    },
    "one dense layer": {
        "decoder_embed_dim": 16,
        "encoder": [{"self_heads": 2, "expert_ffn_dims": [8], "top_k": 1}],
        "decoder": [
            {
                "self_heads": 1,
                "cross_heads": 2,
                "cross_layers": 1,
                "expert_ffn_dims": [16],
                "top_k": 1,
            }
        ],
    },
}


def network_of(name: str, vocab_size: int, seed: int = 0) -> Network:
    arch = arch_lib.make(qkv_dim=16, encoder_embed_dim=16, **ARCHS[name])
    return extract(random_network(SPACE, vocab_size, seed), arch)


@pytest.mark.parametrize("name", ARCHS)
def test_cached_steps_equal_teacher_forcing(name: str) -> None:
    rng = np.random.default_rng(0)
    network = network_of(name, VOCAB)
    source = rng.integers(4, VOCAB, (B, S))
    source[1, 3:] = PAD
    tokens = rng.integers(4, VOCAB, (B, 3, T))
    tokens[:, :, 0] = EOS
    cached = quick_jit(step_by_step)(network, jnp.asarray(source), jnp.asarray(tokens))
    # Hypotheses of a sentence become sentences of their own.
    forced = quick_jit(forward)(
        network,
        network.spec.arch,
        jnp.repeat(source, 3, axis=0),
        jnp.asarray(tokens.reshape(-1, T)),
    )
    np.testing.assert_allclose(cached.reshape(forced.shape), forced, atol=2e-5)


@pytest.mark.parametrize(("sentences", "moved"), [(1, True), (8, False)], ids=["alone", "many"])
def test_steps_of_a_lone_sentence_read_weights_by_columns(sentences: int, moved: bool) -> None:
    """Operands of the search's compiled loop: the projection as [D, V], and the experts' first
    matrix as [D, U].
    """
    network = network_of("two layers, experts, two encoder layers seen", VOCAB)
    source = jnp.full((sentences, S), 5)
    text = beam_search.lower(network, source, beam_size=3, max_length=T).compile().as_text()
    loops = " ".join(line.split(" while(")[0] for line in text.splitlines() if " while(" in line)
    width, units = (
        network.spec.widths.decoder,
        network.params["decoder"]["layer_0"]["experts"]["w_in"].shape[0],
    )
    assert (f"f32[{width},{VOCAB}]{{1,0}}" in loops) == moved
    assert (f"f32[{width},{units}]{{1,0}}" in loops) == moved


@pytest.mark.parametrize(
    ("sentences", "backend", "skips"),
    [(1, None, True), (4, None, False), (1, "padded", False)],
    ids=["three rows", "twelve rows", "chosen backend"],
)
def test_a_lone_sentence_skips_experts(sentences: int, backend: str | None, skips: bool) -> None:
    """Six experts of which a token uses one; `test_experts_by_themselves_equal_the_loop` compares
    the numbers.
    """
    layer = {"self_heads": 1, "expert_ffn_dims": [8], "top_k": 1}
    seen = {"cross_heads": 1, "cross_layers": 1}
    record = {
        "qkv_dim": 16,
        "encoder": {"embed_dim": 16, "layers": [layer]},
        "decoder": {"embed_dim": 16, "layers": [layer | seen | {"expert_ffn_dims": [8] * 6}]},
    }
    arch = arch_lib.Arch.from_dict(record)
    network = init(SIX_EXPERTS, VOCAB, jax.random.key(0), arch=arch)
    options = {"beam_size": 3, "max_length": T, "length_penalty": 0.6}
    with use_backend(backend):
        program = jax.make_jaxpr(functools.partial(beam_search.__wrapped__, network, **options))(
            jnp.full((sentences, S), 5)
        )
    assert (" = cond[" in str(program)) is skips


def test_super_network_does_not_decode() -> None:
    with pytest.raises(ValueError, match="extract"):
        start_decoding(random_network(SPACE, VOCAB), None, 1, 1)


# Every sentence of at most four tokens, EOS included, over three words.

WORDS, LENGTH = (UNK, 4, 5), 4
NARROW = 6
SOURCES = np.array([[4, 5, 4, EOS], [5, EOS, PAD, PAD], [PAD] * 4, [3, 3, EOS, PAD]])
FILLING = 2
search = quick_jit(
    beam_search.__wrapped__, static_argnames=("beam_size", "max_length", "length_penalty")
)


@functools.cache
def narrow_network() -> Network:
    network = network_of("one dense layer", NARROW, seed=3)
    network.params["embedding"]["table"] *= 1.5  # less even, so that lengths differ
    return network


@functools.cache
def wide_network() -> Network:
    """A stub for tests whose search is faked: its vocabulary has the ids of all letters."""
    network = narrow_network()
    return Network(network.params, dataclasses.replace(network.spec, vocab_size=128))


@functools.cache
def log_probabilities() -> dict[tuple[int, ...], np.ndarray]:
    """Prefix → next-token log p [B, V], by teacher forcing of all 27 prefixes."""
    prefixes = list(itertools.product(WORDS, repeat=LENGTH - 1))
    tokens = np.tile([[EOS, *prefix] for prefix in prefixes], (len(SOURCES), 1))
    source = np.repeat(SOURCES, len(prefixes), axis=0)
    network = narrow_network()
    logits = quick_jit(forward)(
        network, network.spec.arch, jnp.asarray(source), jnp.asarray(tokens)
    )
    log_p = np.asarray(jax.nn.log_softmax(logits), np.float64).reshape(
        len(SOURCES), len(prefixes), LENGTH, NARROW
    )
    return {
        prefix[:length]: log_p[:, i, length]
        for i, prefix in enumerate(prefixes)
        for length in range(LENGTH)
    }


def all_sentences(b: int, length_penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every hypothesis with its normalised score, best first."""
    found = []
    for length in range(LENGTH):
        for words in itertools.product(WORDS, repeat=length):
            total = sum(
                log_probabilities()[words[:i]][b, token] for i, token in enumerate((*words, EOS))
            )
            found.append((total / (length + 1) ** length_penalty, (*words, EOS)))
    return sorted(found, reverse=True)


def plain_beam_search(
    b: int, size: int, length_penalty: float
) -> list[tuple[float, tuple[int, ...]]]:
    """A direct implementation: of the 2k best extensions, those that end count among the first k;
    stops at k finished.
    """
    live, finished, count = [(0.0, ())], [], 0
    for length in range(LENGTH):
        allowed = (EOS,) if length == LENGTH - 1 else (EOS, *WORDS)
        extended = [
            (score + log_probabilities()[words][b, token], (*words, token))
            for score, words in live
            for token in allowed
        ]
        best = sorted(extended, reverse=True)[: 2 * size]
        ended = [
            (score / (length + 1) ** length_penalty, words)
            for score, words in best[:size]
            if words[-1] == EOS
        ]
        finished, count = sorted(finished + ended, reverse=True)[:size], count + len(ended)
        live = [hypothesis for hypothesis in best if hypothesis[1][-1] != EOS][:size]
        if count >= size:
            break
    return finished


def found(tokens: jax.Array, scores: jax.Array) -> list[list[tuple[float, tuple[int, ...]]]]:
    """The existing hypotheses of each sentence, after checking that pads follow EOS."""
    sentences = []
    for row, row_scores in zip(np.asarray(tokens), np.asarray(scores), strict=True):
        assert np.all(np.diff(row_scores) <= 0)
        hypotheses = []
        for ids, score in zip(row[row_scores > IMPOSSIBLE / 2], row_scores, strict=False):
            end = int(np.argmax(ids == EOS)) + 1
            assert ids[end - 1] == EOS
            assert np.all(ids[end:] == PAD)
            hypotheses.append((float(score), tuple(ids[:end].tolist())))
        sentences.append(hypotheses)
    return sentences


def assert_same(got: list, expected: list) -> None:
    assert [words for _, words in got] == [words for _, words in expected]
    np.testing.assert_allclose(
        [score for score, _ in got], [score for score, _ in expected], atol=2e-5
    )


@pytest.mark.parametrize("length_penalty", [0.6, 0.0])
def test_huge_beam_equals_exhaustive_search(length_penalty: float) -> None:
    tokens, scores = search(
        narrow_network(), SOURCES, beam_size=64, max_length=LENGTH, length_penalty=length_penalty
    )
    assert tokens.shape == (len(SOURCES), 64, LENGTH)
    for b, sentence in enumerate(found(tokens, scores)):
        if b != FILLING:
            assert len(sentence) == 40
            assert_same(sentence, all_sentences(b, length_penalty))


@pytest.mark.parametrize("size", [2, 3])
def test_narrow_beam_equals_its_rule(size: int) -> None:
    sentences = found(
        *search(narrow_network(), SOURCES, beam_size=size, max_length=LENGTH, length_penalty=0.6)
    )
    for b, sentence in enumerate(sentences):
        if b != FILLING:
            assert_same(sentence, plain_beam_search(b, size, 0.6))


def test_beam_of_one_is_greedy() -> None:
    sentences = found(
        *search(narrow_network(), SOURCES, beam_size=1, max_length=LENGTH, length_penalty=0.6)
    )
    for b, sentence in enumerate(sentences):
        if b == FILLING:
            continue
        words: tuple[int, ...] = ()
        while not words or words[-1] != EOS:
            log_p = log_probabilities()[words][b].copy()
            log_p[[BOS, PAD]] = -np.inf
            words += (EOS if len(words) == LENGTH - 1 else int(log_p.argmax()),)
        assert [ids for _, ids in sentence] == [words]


def test_filling_rows_stay_empty_and_change_nothing() -> None:
    options = {"beam_size": 2, "max_length": LENGTH, "length_penalty": 0.6}
    tokens, scores = search(narrow_network(), SOURCES, **options)
    assert np.all(tokens[FILLING] == PAD)
    assert np.all(scores[FILLING] < IMPOSSIBLE / 2)
    others = np.arange(len(SOURCES)) != FILLING
    changed, _ = search(
        narrow_network(), np.where(others[:, None], SOURCES, SOURCES[:1]), **options
    )
    np.testing.assert_array_equal(changed[others], tokens[others])


# The logits do not matter here, so they are given and no decoder runs.


def searched_with(
    monkeypatch: pytest.MonkeyPatch,
    log_p: list[float],
    sources: np.ndarray,
    size: int,
    length: int = 10,
) -> tuple[Any, int]:
    """(result, steps taken) where every next token has these log probabilities."""
    steps: list[int] = []

    def given(
        network: Any,
        constants: Any,
        caches: Any,
        tokens: jax.Array,
        slots: Any,
        position: jax.Array,
        _: Any,
    ) -> tuple[jax.Array, Any]:
        jax.debug.callback(lambda position: steps.append(int(position)), position)
        return (
            jnp.broadcast_to(jnp.asarray(log_p, jnp.float32), (*tokens.shape, len(log_p))),
            caches,
        )

    monkeypatch.setattr(decode, "decode_step", given)
    run = quick_jit(
        lambda network, source: beam_search.__wrapped__(
            network, source, beam_size=size, max_length=length, length_penalty=0.0
        )
    )
    result = jax.block_until_ready(run(narrow_network(), sources))
    jax.effects_barrier()
    return result, len(steps)


LIKELY_END = [-np.inf, -np.inf, np.log(0.9), -np.inf, np.log(0.06), np.log(0.04)]
NEVER_ENDS = [-np.inf, -np.inf, np.log(1e-30), -np.inf, np.log(0.6), np.log(0.4)]


@pytest.mark.parametrize(("size", "steps"), [(1, 1), (2, 2)])
def test_search_stops_when_all_sentences_are_done(
    monkeypatch: pytest.MonkeyPatch, size: int, steps: int
) -> None:
    (tokens, _), taken = searched_with(monkeypatch, LIKELY_END, SOURCES, size)
    assert taken == steps
    np.testing.assert_array_equal(tokens[[0, 1, 3], 0], [[EOS] + [PAD] * 9] * 3)


def test_search_of_filling_rows_only_takes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    (tokens, _), taken = searched_with(monkeypatch, LIKELY_END, np.full((2, 3), PAD), 2)
    assert taken == 0
    assert np.all(tokens == PAD)


def test_sentence_without_end_is_ended_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    (tokens, scores), taken = searched_with(monkeypatch, NEVER_ENDS, SOURCES[:1], 2, length=5)
    assert taken == 5
    np.testing.assert_array_equal(tokens[0, 0], [4, 4, 4, 4, EOS])
    np.testing.assert_allclose(scores[0, 0], 4 * np.log(0.6) + np.log(1e-30), rtol=1e-5)


@pytest.mark.parametrize("size", [1000, 992, 1008])  # groups of 16 with padding, of 32, of 16
def test_top_k_by_groups_equals_top_k(size: int) -> None:
    x = np.random.default_rng(0).integers(0, 40, (3, 2, size)).astype(np.float32)  # many ties
    x[0, 0] = IMPOSSIBLE
    for count in (1, 10):
        for ours, theirs in zip(
            quick_jit(functools.partial(decode._top_k, count=count))(x),
            jax.lax.top_k(x, count),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)


# Lists of sentences


def echo(calls: list[tuple]) -> Any:
    """A search that returns each source, EOS included, and records the shapes."""

    def run(
        network: Any, source: jax.Array, *, beam_size: int, max_length: int, length_penalty: float
    ) -> tuple[np.ndarray, np.ndarray]:
        calls.append((source.shape, max_length))
        rows = np.asarray(source)
        return (
            np.pad(rows, ((0, 0), (0, max_length - rows.shape[1])), constant_values=PAD)[:, None],
            np.zeros((len(rows), 1)),
        )

    return run


OPTIONS: dict[str, Any] = {
    "buckets": (4, 8),
    "beam_size": 2,
    "length_penalty": 0.6,
    "batch_sizes": (2, 8),
}


def test_order_and_count_of_shuffled_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    progress: list[list[int]] = []
    monkeypatch.setattr(decode, "beam_search", echo(calls))
    rng = np.random.default_rng(0)
    sources = [rng.integers(4, 30, length) for length in rng.permutation([*range(8)] * 3)]
    translations = translate_ids(wide_network(), sources, **OPTIONS, progress=progress.append)
    assert len(translations) == len(sources)
    for source, translation in zip(sources, translations, strict=True):
        np.testing.assert_array_equal(translation, source)
    assert sorted(itertools.chain(*progress)) == list(range(len(sources)))
    # Twelve sentences in each bucket: eight, then four, which need the batch of eight as well.
    assert calls == [((8, 4), 16)] * 2 + [((8, 8), 22)] * 2


def test_few_sentences_take_the_smallest_batch_that_holds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple] = []
    monkeypatch.setattr(decode, "beam_search", echo(calls))
    translate_ids(wide_network(), [np.array([5, 6]), np.array([7] * 7)], **OPTIONS)
    assert calls == [((2, 4), 16), ((2, 8), 22)]


def test_nothing_to_translate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "beam_search", None)
    assert translate_ids(wide_network(), [], **OPTIONS) == []


class Letters:
    """A tokenizer of single letters."""

    def encode(self, lines: list[str]) -> list[np.ndarray]:
        return [np.array([ord(letter) for letter in line], np.int32) for line in lines]

    def decode(self, ids: np.ndarray) -> str:
        return "".join(map(chr, ids))


def test_lines_keep_their_order_and_long_ones_are_translated_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode, "beam_search", echo([]))
    lines = ["abcdefghijklmnop", "ab", "", "abcdefg", "xyz"]
    done: list[int] = []
    translations = translate_lines(
        wide_network(), Letters(), lines, **OPTIONS, progress=done.append
    )
    assert translations == ["abcdefg hijklmn op", "ab", "", "abcdefg", "xyz"]
    assert sum(done) == len(lines)
    assert translate_lines(wide_network(), Letters(), [], **OPTIONS) == []


def test_translation_does_not_depend_on_its_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "beam_search", search)
    sources = [np.array([4, 5]), np.array([5]), np.array([3, 4, 5])]
    options = OPTIONS | {"buckets": (4,), "batch_sizes": (4,)}
    together = translate_ids(narrow_network(), sources, **options)
    for source, translation in zip(sources, together, strict=True):
        (alone,) = translate_ids(narrow_network(), [source], **options)
        np.testing.assert_array_equal(alone, translation)


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([[4, 5], [NARROW]], {}, f"source 1 holds the token id {NARROW}, which is not in"),
        ([[-1]], {}, r"source 0 holds the token id -1, which is not in \[0, "),
        ([[4] * 8], {}, "source 0 has 8 tokens and with EOS does not fit into the last bucket, 8"),
        ([[[4]]], {}, "source 0 must be a vector of token ids"),
        ([[4.0]], {}, "source 0 must be a vector of token ids"),
        ([[4]], {"buckets": (8, 4)}, r"buckets=\(8, 4\) must be rising numbers"),
        ([[4]], {"buckets": ()}, r"buckets=\(\) must be rising numbers, at least one"),
        ([[4]], {"batch_sizes": (0, 2)}, r"batch_sizes\[0\]=0 must be a whole number"),
        ([[4]], {"beam_size": 0}, "beam_size=0 must be a whole number of at least 1"),
        ([[4]], {"beam_size": 2.5}, "beam_size=2.5 must be a whole number of at least 1"),
        ([[4]], {"length_penalty": math.nan}, "length_penalty=nan must be a finite number"),
    ],
)
def test_what_cannot_be_translated(sources: Any, options: Any, message: str) -> None:
    arrays = [np.array(source) for source in sources]
    with pytest.raises(UserError, match=message):
        translate_ids(narrow_network(), arrays, **OPTIONS | options)


def test_beam_search_needs_a_batch_and_a_length() -> None:
    network, source = narrow_network(), jnp.asarray(SOURCES)
    with pytest.raises(UserError, match="max_length=0 must be a whole number of at least 1"):
        beam_search(network, source, beam_size=1, max_length=0)
    with pytest.raises(UserError, match=r"source has the shape \(0, 3\)"):
        beam_search(network, jnp.zeros((0, 3), int), beam_size=1, max_length=3)
