"""Beam search as ONNX operators, with the finishing rules of `inference.decode`.

Steps are made in rounds: a round ends when some sentences are done, and the next one continues
without them.

Axes: B sentences · k beams · n = 2k candidates · t steps · V vocabulary · G groups of words · C
pieces of a shortlist · S source tokens · E experts of a layer · G experts of all layers.
"""

from typing import Any, NamedTuple

import numpy as np

from automoe_jax.export.decoder import SENTENCE_AXES, Decoder, Sentences
from automoe_jax.export.graph import Graph
from automoe_jax.export.layers import Seen
from automoe_jax.export.parts import (
    WORD_GROUP,
    Gathered,
    gathered,
    is_grouped,
    projected_to,
)
from automoe_jax.export.settings import Settings
from automoe_jax.inference.engine.hypotheses import IMPOSSIBLE
from automoe_jax.ops.constants import MASKED

# A round ends when this share of its sentences is done: moving the caches costs a part of a step.
DONE_SHARE = 8
ALIGNING = 2  # the last decoder layers, whose mean attention aligns words
# Outputs of the search, [t, B, …]
RECORDS: dict[str, Any] = {
    "scores": np.float32,
    "tokens": np.int64,
    "origins": np.int64,
    "attention": np.float32,
    "gates": np.float32,
}


class Shortlist(NamedTuple):
    """Pieces that translations may consist of."""

    pieces: str  # int64 [C], of all sentences; none: the whole vocabulary
    own: str  # bool [B, C]: those of each sentence


class _Search(NamedTuple):
    """Values of the outermost graph that all steps use."""

    decoder: Decoder
    settings: Settings
    beams: str  # int64 [], k
    k: str  # int64 [1]
    candidates: str  # int64 [1], n
    each: str  # int64 [1]: candidates of one hypothesis
    may_count: str  # bool [n]: an ending counts only among the k best candidates
    last: str  # int64 []: the last position, at which a hypothesis ends
    stop: str  # int64 []: finished hypotheses at which a sentence is done
    allowed: str  # float32 [2, V], added to log p: at any position, and at the last one
    pieces: str  # int64 [C]: the shortlist
    is_short: str  # bool []: whether there is one
    rows: Gathered  # of the shortlist
    allowed_pieces: str  # float32 [2, C]: `allowed` of the shortlist
    explain: str  # bool []


def beam_search(
    g: Graph,
    decoder: Decoder,
    sentences: Sentences,
    settings: Settings,
    source: str,
    beams: str,
    length: str,
    stop: str,
    shortlist: Shortlist,
    explain: str,
) -> list[str]:
    """RECORDS of all steps, as `models.translator` describes them."""
    search = _prepared(g, decoder, settings, beams, length, stop, shortlist.pieces, explain)
    mask = g.op("Where", shortlist.own, g.number(0), g.number(MASKED))
    sentences = sentences._replace(shortlists=[g.op("Unsqueeze", mask, g.ints(1))])
    batch = g.op("Shape", source, start=0, end=1)
    hypotheses = _first_hypotheses(g, search, batch)
    records = _no_records(g, search, source, batch)
    active = (_numbers(g, g.op("Squeeze", batch)), np.int64)
    states = [(g.integer(0), np.int64), active, *records, *hypotheses, *_constants(sentences)]
    count = len(hypotheses)

    def round_of(body: Graph, turn: str, names: list[str]) -> tuple:
        position, active, *rest = names
        records, rest = rest[: len(RECORDS)], rest[len(RECORDS) :]
        alive, constants = rest[:count], rest[count:]
        kept = _sentences(constants, sentences)
        steps, moved = _round(body, search, kept, position, length, alive)
        records = [
            body.op("Concat", before, _spread(body, step, active, before), axis=0)
            for before, step in zip(records, steps, strict=True)
        ]
        position = body.op("Add", position, body.op("Squeeze", body.op("Shape", steps[0], end=1)))
        unfinished = body.op("Less", moved[2], search.stop)
        some = body.op("ReduceMax", body.op("Cast", unfinished, to=7), keepdims=0)
        going = body.op("And", body.op("Cast", some, to=9), body.op("Less", position, length))

        def left(value: str, axis: int) -> str:
            return body.op("Compress", value, unfinished, axis=axis)

        axes = [0, 0, 0, 0] + [1] * (count - 4)
        following = [left(value, axis) for value, axis in zip(moved, axes, strict=True)]
        following += [
            left(value, axis)
            for group, axis in zip(kept, SENTENCE_AXES, strict=True)
            for value in group
        ]
        return going, [position, left(active, 0), *records, *following], []

    final, _ = g.loop(length, g.constant(True), states, round_of)
    return final[2 : 2 + len(RECORDS)]


def _first_hypotheses(g: Graph, search: _Search, batch: str) -> list[tuple[str, Any]]:
    """States of the loop, with their types, that describe the hypotheses before the first step: of
    k beams, only the first is possible.
    """
    shape = g.op("Concat", batch, search.k, axis=0)
    is_first = g.op("Equal", _numbers(g, search.beams), g.integer(0))
    scores = g.op("Where", is_first, g.number(0), g.number(IMPOSSIBLE))
    return [
        (g.op("Expand", g.integer(search.settings.eos_id), shape), np.int64),
        (g.op("Expand", scores, shape), np.float32),
        (g.op("Expand", g.integer(0), batch), np.int64),
        (search.decoder.no_ancestors(g, batch), np.float32),
        *((cache, np.float32) for cache in search.decoder.empty(g, batch)),
    ]


def _no_records(g: Graph, search: _Search, source: str, batch: str) -> list[tuple[str, Any]]:
    """RECORDS of no steps, with their types; those of explanations are empty unless requested."""
    explained = g.op("Cast", search.explain, to=7)
    places = g.op("Mul", g.op("Mul", search.k, g.op("Shape", source, start=1)), explained)
    gates = g.op("Mul", g.op("Mul", search.k, g.ints(_experts(search.decoder))), explained)
    widths = [search.candidates] * 3 + [places, gates]
    return [
        (_nothing(g, dtype, g.ints(0), batch, width), dtype)
        for dtype, width in zip(RECORDS.values(), widths, strict=True)
    ]


def _constants(sentences: Sentences) -> list[tuple[str, Any]]:
    """States of the loop, with their types, that only lose finished sentences."""
    return [
        *((value, np.float32) for value in (*sentences.memories, *sentences.masks)),
        *((value, np.int64) for value in sentences.draws),
        *((value, np.float32) for value in sentences.shortlists),
    ]


def _prepared(
    g: Graph,
    decoder: Decoder,
    settings: Settings,
    beams: str,
    length: str,
    stop: str,
    pieces: str,
    explain: str,
) -> _Search:
    k = g.op("Reshape", beams, g.ints(1))
    candidates = g.op("Mul", k, g.ints(2))
    allowed = np.zeros((2, settings.output_size), np.float32)
    allowed[0, list(settings.never)] = IMPOSSIBLE
    allowed[1] = IMPOSSIBLE
    allowed[1, settings.eos_id] = 0
    # words that are not generated may be among the best ones
    spare = len(settings.never) if is_grouped(settings.output_size) else 0
    each = g.op("Add", candidates, g.ints(spare))
    size = g.op("Shape", pieces)
    is_short = g.op("Greater", size, g.ints(0))
    words = g.op("Where", is_short, size, g.ints(settings.output_size))
    everywhere = g.constant(allowed)
    return _Search(
        decoder,
        settings,
        beams,
        k,
        candidates,
        g.op("Min", each, words),
        g.op("Less", _numbers(g, g.op("Squeeze", candidates)), beams),
        g.op("Sub", length, g.integer(1)),
        stop,
        everywhere,
        pieces,
        g.op("Squeeze", is_short),
        gathered(g, decoder.outputs, pieces),
        g.op("Gather", everywhere, pieces, axis=1),
        explain,
    )


def _round(
    g: Graph,
    search: _Search,
    sentences: Sentences,
    start: str,
    length: str,
    states: list[str],
) -> tuple[list[str], list[str]]:
    """Steps from position `start` until enough sentences are done: records [t,B,n], states."""
    batch = g.op("Shape", states[2])
    own = search.decoder.own_entries(g, batch)
    first_rows = g.op("Mul", _numbers(g, g.op("Squeeze", batch)), search.beams)
    first_rows = g.op("Unsqueeze", first_rows, g.ints(1))
    extensions = g.op("Concat", batch, g.op("Mul", search.k, search.each), axis=0)
    rows = g.op("Concat", g.op("Mul", batch, search.k), g.ints(-1), axis=0)
    most = g.op("Squeeze", g.op("Div", batch, g.ints(DONE_SHARE)))
    enough = g.op("Max", most, g.integer(1))

    def turn(body: Graph, number: str, names: list[str]) -> tuple:
        tokens, scores, finished, ancestors, *caches = names
        position = body.op("Add", start, number)
        y, caches, ancestors, seen = search.decoder.step(
            body, tokens, position, caches, ancestors, own, sentences
        )
        explained = _explained(body, search, seen, y, batch)
        best, words = _next_words(body, search, y, position, sentences)
        before = body.op("Reshape", scores, body.ints(-1, 1))
        total = body.op("Reshape", body.op("Add", best, before), extensions)
        total, place = body.ops("TopK", total, search.candidates, outputs=2)
        origin = body.op("Div", place, search.each)
        token = body.op("GatherElements", body.op("Reshape", words, extensions), place, axis=1)
        ends = body.op("Equal", token, body.integer(search.settings.eos_id))
        exists = body.op("Greater", total, body.number(IMPOSSIBLE / 2))
        complete = body.op("And", body.op("And", ends, exists), search.may_count)
        count = body.op("ReduceSum", body.op("Cast", complete, to=7), body.ints(1), keepdims=0)
        finished = body.op("Add", finished, count)
        living = body.op("Where", ends, body.number(2 * IMPOSSIBLE), total)
        scores, live = body.ops("TopK", living, search.k, outputs=2)
        tokens = body.op("GatherElements", token, live, axis=1)
        descend = body.op("Add", body.op("GatherElements", origin, live, axis=1), first_rows)
        ancestors = body.op("Gather", body.op("Reshape", ancestors, rows), descend)  # [B,k,t·k]
        ancestors = body.op("Unsqueeze", ancestors, body.ints(1))
        done = body.op("Not", body.op("Less", finished, search.stop))
        done = body.op("ReduceSum", body.op("Cast", done, to=7), keepdims=0)
        return (
            body.op("Less", done, enough),
            [tokens, scores, finished, ancestors, *caches],
            list(zip((total, token, origin, *explained), RECORDS.values(), strict=True)),
        )

    dtypes = [np.int64, np.float32, np.int64, *[np.float32] * (len(states) - 3)]
    left = g.op("Sub", length, start)
    moved, records = g.loop(left, g.constant(True), list(zip(states, dtypes, strict=True)), turn)
    return records, moved


def _explained(g: Graph, search: _Search, seen: list[Seen], y: str, batch: str) -> tuple[str, ...]:
    """attention [B,k·S] and gates [B,k·G] of a step, if explanations are wanted."""

    def looks(body: Graph, layer: int) -> str:
        """[B,k,S]: the mean over heads, the sum over the encoder layers."""
        copies, attention = int(search.decoder.arch.cross_layers[layer]), seen[layer].attention
        assert attention is not None
        mean = body.op("ReduceMean", attention, body.ints(0, 2), keepdims=0)
        by_layer = body.op("Concat", batch, search.k, body.ints(copies, -1), axis=0)
        return body.op("ReduceSum", body.op("Reshape", mean, by_layer), body.ints(2), keepdims=0)

    def decisions(body: Graph) -> tuple[str, ...]:
        layers = [i for i, one in enumerate(seen) if one.attention is not None][-ALIGNING:]
        weights = body.op("Mean", *(looks(body, layer) for layer in layers))
        rows = body.op("Concat", batch, body.ints(-1), axis=0)
        gates = [one.gates for one in seen if one.gates is not None]
        if not gates:
            nothing = _nothing(body, np.float32, batch, body.ints(0))
            return body.op("Reshape", weights, rows), nothing
        joined = joined_gates(body, gates, y)
        return body.op("Reshape", weights, rows), body.op("Reshape", joined, rows)

    def none(body: Graph) -> tuple[str, ...]:
        return tuple(_nothing(body, np.float32, batch, body.ints(0)) for _ in range(2))

    return g.branches(search.explain, decisions, none, (np.float32, np.float32))


def joined_gates(g: Graph, gates: list[str], x: str) -> str:
    """[N, G] of the gates [N, E] of all layers, for states x [N, D]; [1, 1] means ones."""
    ones = g.op("Concat", g.op("Shape", x, end=1), g.ints(1), axis=0)
    return g.op("Concat", *(g.op("Expand", one, ones) for one in gates), axis=1)


def _experts(decoder: Decoder) -> int:
    return sum(map(len, decoder.arch.decoder_experts))


def _nothing(g: Graph, dtype: Any, *shape: str) -> str:
    """Zeros of a shape in parts."""
    return g.op("Expand", g.constant(0, dtype), g.op("Concat", *shape, axis=0))


def _next_words(
    g: Graph, search: _Search, y: str, position: str, sentences: Sentences
) -> tuple[str, str]:
    """log p and numbers [N, each] of the best next words after states y [N, D]."""

    def of_vocabulary(body: Graph) -> tuple[str, ...]:
        return _best_words(body, search, search.decoder.logits(body, y), position)

    def of_shortlist(body: Graph) -> tuple[str, ...]:
        logits = projected_to(body, y, search.rows, search.settings.precision)
        (mask,) = sentences.shortlists
        size = body.op("Shape", search.pieces)
        by_sentence = body.op("Concat", body.ints(-1), search.k, size, axis=0)
        masked = body.op("Add", body.op("Reshape", logits, by_sentence), mask)
        rows = body.op("Concat", body.ints(-1), size, axis=0)
        log_p = body.op("LogSoftmax", body.op("Reshape", masked, rows), axis=-1)
        ends = body.op("Cast", body.op("Equal", position, search.last), to=7)
        permitted = body.op("Add", log_p, body.op("Gather", search.allowed_pieces, ends))
        best, place = body.ops("TopK", permitted, search.each, outputs=2)
        return best, body.op("Gather", search.pieces, place)

    best, words = g.branches(search.is_short, of_shortlist, of_vocabulary, (np.float32, np.int64))
    return best, words


def _best_words(g: Graph, search: _Search, logits: str, position: str) -> tuple[str, str]:
    """log p and numbers [N, each] of the best next words for logits [N, V]."""
    log_p = g.op("LogSoftmax", logits, axis=-1)
    ends = g.op("Equal", position, search.last)

    def plainly(body: Graph, row: str) -> tuple[str, ...]:
        words = log_p
        if is_grouped(search.settings.output_size):  # without the words that fill the last group
            words = body.op(
                "Slice", log_p, body.ints(0), body.ints(search.settings.output_size), body.ints(1)
            )
        permitted = body.op("Add", words, body.op("Gather", search.allowed, row))
        return body.ops("TopK", permitted, search.each, outputs=2)

    if not is_grouped(search.settings.output_size):
        best, words = plainly(g, g.op("Cast", ends, to=7))
        return best, words

    def by_groups(body: Graph) -> tuple[str, ...]:
        """The groups with the largest maxima hold the best words."""
        groups = -(-search.settings.output_size // WORD_GROUP)
        grouped = body.op("Reshape", log_p, body.ints(-1, groups, WORD_GROUP))
        largest = body.op("ReduceMax", grouped, body.ints(2), keepdims=0)
        count = body.op("Min", search.each, body.ints(groups))
        _, holding = body.ops("TopK", largest, count, outputs=2)  # [N, each]
        row = body.op(
            "Range",
            body.integer(0),
            body.op("Squeeze", body.op("Shape", holding, end=1)),
            body.integer(1),
        )
        row = body.op("Mul", body.op("Unsqueeze", row, body.ints(1)), body.integer(groups))
        members = body.op(
            "Gather",
            body.op("Reshape", log_p, body.ints(-1, WORD_GROUP)),
            body.op("Add", holding, row),
        )
        members = body.op("Flatten", members)  # [N, each · WORD_GROUP]
        best, place = body.ops("TopK", members, search.each, outputs=2)
        group = body.op(
            "GatherElements", holding, body.op("Div", place, body.integer(WORD_GROUP)), axis=1
        )
        words = body.op("Mul", group, body.integer(WORD_GROUP))
        words = body.op("Add", words, body.op("Mod", place, body.integer(WORD_GROUP)))
        penalty = body.op("Gather", body.op("Gather", search.allowed, body.integer(0)), words)
        return body.op("Add", best, penalty), words

    best, words = g.branches(
        ends, lambda body: plainly(body, body.integer(1)), by_groups, (np.float32, np.int64)
    )
    return best, words


def _spread(g: Graph, records: str, active: str, like: str) -> str:
    """records [t,b,n] of the sentences active [b] → [t,B,n], as many sentences as `like` has."""
    shape = g.op("Shape", records)
    index = g.op("Expand", g.op("Unsqueeze", active, g.ints(0, 2)), shape)
    whole = g.op(
        "Concat", g.op("Slice", shape, g.ints(0), g.ints(1)), g.op("Shape", like, start=1), axis=0
    )
    nothing = g.op("Expand", g.op("CastLike", g.integer(0), records), whole)
    return g.op("ScatterElements", nothing, index, records, axis=1)


def _sentences(values: list[str], like: Sentences) -> Sentences:
    """`values` grouped as `like` is."""
    rest = iter(values)
    return Sentences(*([next(rest) for _ in group] for group in like))


def _numbers(g: Graph, count: str) -> str:
    """0 … count − 1, int64."""
    return g.op("Range", g.integer(0), count, g.integer(1))
