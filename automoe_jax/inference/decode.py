"""Beam search with a cache of keys and values; greedy search is a beam of one.

Hypotheses are scored by Σ log p / length^α, EOS counted in both, as in the decoding of AutoMoE
(Jawahar et al., 2023). A sentence is done when it has k finished hypotheses, and the search ends
when all sentences are done.

Axes: B sentences · k beams · T positions · V vocabulary.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from automoe_jax.data.tokenizer import BOS, EOS, PAD, SeparateTokenizers, Tokenizer
from automoe_jax.errors import UserError, check_rising, check_whole
from automoe_jax.inference import lines as lines_of_text
from automoe_jax.inference.engine.hypotheses import IMPOSSIBLE, Hypothesis
from automoe_jax.inference.lines import batches, padded
from automoe_jax.model.inputs import check_ids
from automoe_jax.model.layers import KeysValues
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import Memory, decode_step, encode, start_decoding

NEVER = (BOS, PAD)  # never generated
# the least and the most logits that are represented by their maximum in the search for the best
GROUPS = (16, 64)


class Beams(NamedTuple):
    """The state of the search."""

    position: Int32[Array, ""]  # tokens written so far
    tokens: Int32[Array, "B k T"]  # live hypotheses
    scores: Float32[Array, "B k"]  # Σ log p of them
    slots: Int32[Array, "B k T"]  # index in the caches of each of their positions
    finished: Int32[Array, "B k T"]  # the best finished ones, EOS included, then pads
    finished_scores: Float32[Array, "B k"]  # normalised; IMPOSSIBLE if there is none yet
    finished_count: Int32[Array, "B"]  # number of finished hypotheses
    # per layer [B, P, T·k, W]; None for one without self-attention
    caches: list[KeysValues | None]


@functools.partial(jax.jit, static_argnames=("beam_size", "max_length", "length_penalty"))
def beam_search(
    network: Network,
    source: Int[Array, "B S"],
    *,
    beam_size: int,
    max_length: int,
    length_penalty: float = 0.6,
) -> tuple[Int32[Array, "B k T"], Float32[Array, "B k"]]:
    """The best hypotheses of a sub-Transformer. source [B,S] → tokens [B,k,T] and normalised scores
    [B,k], best first.

    Tokens end in EOS, then pads; hypotheses end at T = max_length. A slot without a hypothesis
    (with a tiny vocabulary) has the score IMPOSSIBLE. Token ids are not checked here, as this
    function is compiled: `translate_ids` does.
    """
    check_whole(beam_size=beam_size, max_length=max_length)
    if not 0 <= length_penalty < math.inf:
        raise UserError(f"length_penalty={length_penalty!r} must be a finite number of at least 0")
    memory = encode(network, network.spec.widths, network.spec.exact_arch, source).memory
    return search_from(
        network, memory, beam_size=beam_size, max_length=max_length, length_penalty=length_penalty
    )


def search_from(
    network: Network,
    memory: Memory,
    *,
    beam_size: int,
    max_length: int,
    length_penalty: float,
    stop_early: bool = True,
) -> tuple[Int32[Array, "B k T"], Float32[Array, "B k"]]:
    """`beam_search` from the encoder's output; without `stop_early` it makes all max_length
    steps.
    """
    spec = network.spec
    constants, caches = start_decoding(network, memory, beam_size, max_length)
    batch = len(memory.source_real)
    empty = jnp.full((batch, beam_size, max_length), spec.pad_id, jnp.int32)
    only_first = jnp.where(jnp.arange(beam_size) == 0, 0.0, IMPOSSIBLE)
    nothing = jnp.full((batch, beam_size), IMPOSSIBLE)
    own = jnp.broadcast_to(jnp.arange(beam_size)[None, :, None], empty.shape)
    start = Beams(
        position=jnp.zeros((), jnp.int32),
        tokens=empty,
        scores=jnp.tile(only_first, (batch, 1)),
        slots=own,
        finished=empty,
        finished_scores=nothing,
        finished_count=jnp.zeros((batch,), jnp.int32),
        caches=caches,
    )
    # A row of pads only is padding: done before it starts.
    filling = ~memory.source_real.any(axis=1)
    start = start._replace(finished_count=jnp.where(filling, beam_size, 0))

    def unfinished(beams: Beams) -> Bool[Array, ""]:
        some_left = jnp.any(beams.finished_count < beam_size) if stop_early else True
        return (beams.position < max_length) & some_left

    def advance(beams: Beams) -> Beams:
        last = jax.lax.dynamic_index_in_dim(
            beams.tokens, jnp.maximum(beams.position - 1, 0), axis=2, keepdims=False
        )
        last = jnp.where(beams.position == 0, EOS, last)
        logits, caches = decode_step(
            network, constants, beams.caches, last, beams.slots, beams.position, memory.sentences
        )
        return _extend(beams._replace(caches=caches), logits, length_penalty)

    beams = jax.lax.while_loop(unfinished, advance, start)
    order = jnp.argsort(-beams.finished_scores, axis=1, stable=True)
    return jnp.take_along_axis(beams.finished, order[..., None], axis=1), jnp.take_along_axis(
        beams.finished_scores, order, axis=1
    )


def _extend(beams: Beams, logits: Float32[Array, "B k V"], length_penalty: float) -> Beams:
    """One more token. logits [B,k,V]."""
    _, size, length = beams.tokens.shape
    # Twice as many candidates as beams, so that k remain even if k of them end.
    scores, origin, token = _best_extensions(
        beams.scores, logits, beams.position == length - 1, 2 * size
    )
    ends = token == EOS
    hypotheses = jnp.take_along_axis(beams.tokens, origin[..., None], axis=1)
    hypotheses = jax.lax.dynamic_update_index_in_dim(hypotheses, token, beams.position, axis=2)
    # As in the original's decoder, an ending counts only among the k best candidates.
    complete = (
        ends
        & (jnp.arange(scores.shape[1]) < size)[None]
        & (scores > IMPOSSIBLE / 2)
        & (beams.finished_count < size)[:, None]
    )
    normalised = jnp.where(complete, scores / (beams.position + 1.0) ** length_penalty, IMPOSSIBLE)
    finished_scores, best = jax.lax.top_k(
        jnp.concatenate([beams.finished_scores, normalised], axis=1), size
    )
    finished = jnp.take_along_axis(
        jnp.concatenate([beams.finished, hypotheses], axis=1), best[..., None], axis=1
    )
    live_scores, live = jax.lax.top_k(jnp.where(ends, 2 * IMPOSSIBLE, scores), size)
    slots = jnp.take_along_axis(
        beams.slots, jnp.take_along_axis(origin, live, axis=1)[..., None], axis=1
    )
    # The next position is written by each hypothesis in its own place.
    later = (jnp.arange(length) > beams.position)[None, None]
    slots = jnp.where(later, jnp.arange(size)[None, :, None], slots)
    return Beams(
        position=beams.position + 1,
        tokens=jnp.take_along_axis(hypotheses, live[..., None], axis=1),
        scores=live_scores,
        slots=slots,
        finished=finished,
        finished_scores=finished_scores,
        finished_count=beams.finished_count + complete.sum(axis=1, dtype=jnp.int32),
        caches=beams.caches,
    )


def _best_extensions(
    scores: Float32[Array, "B k"],
    logits: Float32[Array, "B k V"],
    must_end: Bool[Array, ""],
    count: int,
) -> tuple[Float32[Array, "B count"], Int32[Array, "B count"], Int32[Array, "B count"]]:
    """The `count` best one-token extensions of all beams: (scores, beam, token) [B, count], best
    first.

    First the best of each beam, then the best of these: many times faster than over [B, k·V] at
    once.
    """
    tokens = jnp.arange(logits.shape[-1])
    possible = jnp.where(must_end, tokens == EOS, ~jnp.isin(tokens, jnp.array(NEVER)))
    log_z = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    each = min(count, logits.shape[-1])
    best, token = _top_k(jnp.where(possible[None, None], logits, IMPOSSIBLE), each)
    log_p = jnp.where(best > IMPOSSIBLE / 2, best - log_z, IMPOSSIBLE)
    total = (scores[..., None] + log_p).reshape(len(scores), -1)
    if total.shape[1] < count:
        total = jnp.pad(
            total, ((0, 0), (0, count - total.shape[1])), constant_values=2 * IMPOSSIBLE
        )
    top, index = jax.lax.top_k(total, count)
    index = jnp.minimum(index, scores.shape[1] * each - 1)
    return top, index // each, jnp.take_along_axis(token.reshape(len(scores), -1), index, axis=1)


def _top_k(
    x: Float[Array, "... size"], count: int
) -> tuple[Float[Array, "... count"], Int32[Array, "... count"]]:
    """`lax.top_k` over the last axis, by the best of few groups with the largest maxima: many times
    faster on CPU.
    """
    size, (least, most) = x.shape[-1], GROUPS
    members = max(math.gcd(size, most), least)  # no padding if possible
    groups = -(-size // members)
    if groups <= count:
        values, indices = jax.lax.top_k(x, count)
        return values, indices
    if groups * members > size:
        x = jnp.pad(
            x, [(0, 0)] * (x.ndim - 1) + [(0, groups * members - size)], constant_values=-jnp.inf
        )
    grouped = x.reshape(*x.shape[:-1], groups, members)
    # In increasing order, so that ties go to the first, as in `lax.top_k`.
    holding = jnp.sort(jax.lax.top_k(grouped.max(-1), count)[1], axis=-1)
    best, place = jax.lax.top_k(
        jnp.take_along_axis(grouped, holding[..., None], axis=-2).reshape(*x.shape[:-1], -1), count
    )
    return best, jnp.take_along_axis(holding, place // members, axis=-1) * members + place % members


def translate_lines(
    network: Network,
    tokenizer: Tokenizer | SeparateTokenizers,
    lines: Sequence[str],
    *,
    buckets: tuple[int, ...],
    progress: Callable[[int], Any] = lambda done: None,
    **options: Any,
) -> list[str]:
    """`lines.translate_lines` with a sub-Transformer; `options` are those of `hypotheses`."""
    return lines_of_text.translate_lines(
        lambda sources, finished: translate_ids(
            network, sources, buckets=buckets, progress=finished, **options
        ),
        tokenizer,
        lines,
        longest=buckets[-1] - 1,
        progress=progress,
    )


def _check_sources(sources: Sequence[Int[np.ndarray, "_"]], longest: int, vocab_size: int) -> None:
    for number, source in enumerate(sources):
        if np.ndim(source) != 1 or not np.issubdtype(np.asarray(source).dtype, np.integer):
            raise UserError(f"source {number} must be a vector of token ids, got {source!r:.80}")
        if len(source) >= longest:
            raise UserError(
                f"source {number} has {len(source)} tokens and with EOS does not fit into the last"
                f" bucket, {longest}; cut it, or add a longer bucket"
            )
        check_ids(f"source {number}", source, vocab_size)


def translate_ids(
    network: Network, sources: list[Int[np.ndarray, "_"]], **options: Any
) -> list[Int32[np.ndarray, "_"]]:
    """The best translation of each source, token ids without EOS in and out, in the order given;
    `options` are those of `hypotheses`.
    """
    return [best[0].tokens for best in hypotheses(network, sources, **options)]


def hypotheses(
    network: Network,
    sources: list[Int[np.ndarray, "_"]],
    *,
    buckets: tuple[int, ...],
    beam_size: int,
    length_penalty: float,
    batch_sizes: tuple[int, ...],
    progress: Callable[[list[int]], Any] = lambda done: None,
    best: int = 1,
) -> list[list[Hypothesis]]:
    """The `best` translations of each source, best first, in the order given; fewer if fewer
    finished, but one at least. Token ids of sources have no EOS.

    Sentences are sorted by length and translated in batches of few shapes: the buckets by the
    smallest of the rising `batch_sizes` that holds the rest. Each source must fit into the
    last bucket with its EOS, and a translation may be one and a half times as long as its bucket,
    plus 10. `progress` is called after every batch with the numbers of its sources.

    Raises `UserError` for a source that does not fit or holds ids beyond the vocabulary, and for
    buckets and batch sizes that are not rising whole numbers.
    """
    check_rising("buckets", buckets)
    check_rising("batch_sizes", batch_sizes)
    _check_sources(sources, buckets[-1], network.spec.vocab_size)
    by_source: list[list[Hypothesis]] = [[] for _ in sources]
    for batch in batches([len(source) for source in sources], buckets, batch_sizes[-1]):
        members = batch.members
        rows = next(size for size in batch_sizes if size >= len(members))
        source = padded([sources[i] for i in members], rows, batch.bucket, EOS, network.spec.pad_id)
        results = beam_search(
            network,
            jnp.asarray(source),
            beam_size=beam_size,
            max_length=batch.max_length,
            length_penalty=length_penalty,
        )
        tokens, scores = (np.asarray(one)[:, :best] for one in results)
        for index, own, own_scores in zip(members, tokens, scores, strict=False):
            by_source[index] = [
                Hypothesis(one[: int(np.argmax(one == EOS))], float(score))
                for rank, (one, score) in enumerate(zip(own, own_scores, strict=True))
                if rank == 0 or score > IMPOSSIBLE / 2
            ]
        progress(members)
    return by_source
