"""Whole models: translation by beam search, next-token logits of given translations, classes.

Axes: B sentences · S source tokens · T target tokens · k beams · D embedding width · V vocabulary ·
L layers · C classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx

from automoe_jax.arch import Arch
from automoe_jax.export import routing
from automoe_jax.export.graph import Graph
from automoe_jax.export.layers import (
    LayerPlan,
    Tokens,
    decoder_layer,
    encoder_layer,
    looked_up,
    plan,
)
from automoe_jax.export.parts import (
    MASKED,
    KeysValues,
    Rows,
    Table,
    embedded,
    projected,
    table,
)
from automoe_jax.export.settings import (
    DECODER,
    ENCODER,
    Settings,
    Weights,
    embed_dim,
    layer_number,
    sinusoids,
)

IMPOSSIBLE = -1e9  # the score of a hypothesis that does not exist, as in inference.decode


def translator(arch: Arch, settings: Settings, weights: Weights) -> onnx.ModelProto:
    """Beam search.

    Inputs, int64: source [B,S], padded on the right; beams [], k; max_length [], tokens of the
    longest translation; stop [], the number of finished hypotheses at which a sentence is done.

    Outputs, for each of the t steps that were made and the 2k best one-token extensions of a
    sentence's hypotheses, best first: scores float32, tokens and origins int64 [t, B, 2k], an
    origin being the hypothesis extended. The first k of those that do not end are the next step's
    hypotheses.
    """
    g = Graph()
    source = g.input("source", np.int64, ("B", "S"))
    beams = g.input("beams", np.int64, ())
    length = g.input("max_length", np.int64, ())
    stop = g.input("stop", np.int64, ())
    decoder = _prepared(g, arch, settings, weights, source, beams, length)
    found = _beam_search(g, decoder, settings, beams, length, stop)
    for value, (name, dtype) in zip(
        found, (("scores", np.float32), ("tokens", np.int64), ("origins", np.int64)), strict=True
    ):
        g.output(value, name, dtype, ("t", "B", "n"))
    return g.model()


def scorer(arch: Arch, settings: Settings, weights: Weights) -> onnx.ModelProto:
    """The translator's steps on given translations. Inputs: source int64 [B,S], target_input int64
    [B,T] → logits float32 [B,T,V].
    """
    g = Graph()
    source = g.input("source", np.int64, ("B", "S"))
    target = g.input("target_input", np.int64, ("B", "T"))
    length = g.op("Gather", g.op("Shape", target), g.integer(1))
    decoder = _prepared(g, arch, settings, weights, source, g.integer(1), length)

    def turn(body: Graph, position: str, states: list[str]) -> tuple:
        last = body.op("Unsqueeze", body.op("Gather", target, position, axis=1), body.ints(1))
        logits, caches, ancestors = decoder.step(body, last, position, states[1:], states[0])
        record = body.op("Reshape", logits, decoder.shape_with_vocabulary)
        return body.constant(True), [ancestors, *caches], [(record, np.float32)]

    states = [(decoder.no_ancestors, np.float32), *((cache, np.float32) for cache in decoder.empty)]
    _, (logits,) = g.loop(length, g.constant(True), states, turn)
    squeezed = g.op("Squeeze", logits, g.ints(2))  # [T, B, 1, V] → [T, B, V]
    g.output(g.op("Transpose", squeezed, perm=[1, 0, 2]), "logits", np.float32, ("B", "T", "V"))
    return g.model()


def classifier(arch: Arch, settings: Settings, weights: Weights) -> onnx.ModelProto:
    """Input: source int64 [B,S] → logits float32 [B,C], the special classes included."""
    g = Graph()
    source = g.input("source", np.int64, ("B", "S"))
    encoded = _encoded(g, arch, settings, weights, source)
    real = g.op("Unsqueeze", encoded.real, g.ints(2))
    states = encoded.rows.split(g, encoded.layers[-1], embed_dim(arch, ENCODER))
    summed = g.op("ReduceSum", g.op("Mul", states, real), g.ints(1), keepdims=0)
    count = g.op("Max", g.op("ReduceSum", real, g.ints(1), keepdims=0), g.number(1))
    mean = g.op("Div", summed, count)
    classes = np.asarray(weights["classifier"]["table"], np.float32)
    logits = g.op("Gemm", mean, g.constant(classes), transB=1)
    g.output(logits, "logits", np.float32, ("B", "C"))
    return g.model()


class _Encoded(NamedTuple):
    """Output of the encoder."""

    layers: list[str]  # [N, D] of each layer
    rows: Rows
    real: str  # float32 [B, S], 0 for padding
    mask: str  # float32 [B, 1, 1, S], added to scores
    sentences: str | None  # int64 [B]: a number for each sentence, for random routes


def _encoded(g: Graph, arch: Arch, settings: Settings, weights: Weights, source: str) -> _Encoded:
    is_real = g.op("Not", g.op("Equal", source, g.integer(settings.pad_id)))
    whole, real = g.op("Cast", is_real, to=7), g.op("Cast", is_real, to=1)
    mask = g.op("Where", is_real, g.number(0), g.number(MASKED))
    mask = g.op("Unsqueeze", mask, g.ints(1, 2))
    counted = g.op("CumSum", whole, g.integer(1))
    places = g.op("Add", g.op("Mul", counted, whole), g.integer(settings.pad_id))
    rows, flat = Rows(g.op("Shape", source, start=1, end=2)), g.ints(-1)
    x = embedded(
        g,
        _table(g, arch, settings, weights, ENCODER),
        g.op("Reshape", source, flat),
        g.op("Gather", _positions(g, arch, settings, ENCODER), g.op("Reshape", places, flat)),
    )
    sentences = None
    if _draw(settings) in (routing.POSITION, routing.SENTENCE):
        sentences = routing.hashed_sentences(g, source, whole)
    place = g.op("Sub", counted, g.integer(1))
    first = _first(g, arch, settings, ENCODER, source, sentences, place)
    if first is not None:
        first = g.op("Reshape", first, g.ints(-1, arch.encoder_layers))
    tokens = Tokens(rows, g.op("Reshape", real, flat), first)
    outputs = []
    for i in range(arch.encoder_layers):
        layer = plan(arch, ENCODER, i, weights, settings)
        x = encoder_layer(g, layer, x, mask, tokens)
        outputs.append(x)
    return _Encoded(outputs, rows, real, mask, sentences)


class _Decoder(NamedTuple):
    """The decoder of a batch, ready for its first step."""

    # (body, tokens [B,k], position [], caches, ancestors) → logits [N,V], caches, ancestors
    step: Callable[[Graph, str, str, list[str], str], tuple[str, list[str], str]]
    empty: list[str]  # a key's and a value's cache [1,B,P,0,W] for each layer
    no_ancestors: str  # float32 [B,1,k,0]
    batch: str  # int64 [1]: B
    shape_with_vocabulary: str  # int64 [3]: B, k, V


def _prepared(
    g: Graph,
    arch: Arch,
    settings: Settings,
    weights: Weights,
    source: str,
    beams: str,
    length: str,
) -> _Decoder:
    encoded = _encoded(g, arch, settings, weights, source)
    batch = g.op("Shape", source, start=0, end=1)
    k = g.op("Reshape", beams, g.ints(1))
    layers = [plan(arch, DECODER, i, weights, settings) for i in range(arch.decoder_layers)]
    memories = [_memory(g, arch, layer, encoded) for layer in layers]
    table = _table(g, arch, settings, weights, DECODER)
    positions = _positions(g, arch, settings, DECODER)
    own = g.op("Sub", _eye(g, beams), g.number(1))
    own = g.op("Mul", own, g.number(-MASKED))  # 0 for a hypothesis's own entry
    own = g.op("Expand", own, g.op("Concat", batch, g.ints(1), k, k, axis=0))
    draws = None
    if _draw(settings) == routing.POSITION:
        turns = g.op("Unsqueeze", g.op("Range", g.integer(0), length, g.integer(1)), g.ints(1))
        # [T, B, L]
        draws = _first(g, arch, settings, DECODER, None, encoded.sentences, turns)
    elif _draw(settings) == routing.SENTENCE:
        draws = _first(g, arch, settings, DECODER, None, encoded.sentences, None)
    shape, rows = g.op("Concat", batch, k, axis=0), Rows(k)

    def step(
        body: Graph, tokens: str, position: str, caches: list[str], ancestors: str
    ) -> tuple[str, list[str], str]:
        row = body.op("Add", position, body.integer(settings.pad_id + 1))
        tokens = body.op("Reshape", tokens, body.ints(-1))
        y = embedded(body, table, tokens, body.op("Gather", positions, row))
        ancestors = body.op("Concat", ancestors, own, axis=3)
        first = _first_of_step(body, arch, settings, draws, tokens, position, shape)
        written: list[str] = []
        for i, layer in enumerate(layers):
            y, cache = decoder_layer(
                body,
                layer,
                y,
                KeysValues(*caches[2 * i : 2 * i + 2]),
                ancestors,
                *memories[i],
                Tokens(rows, None, first),
                few=False,
            )
            written += cache
        return projected(body, y, table, settings.precision), written, ancestors

    return _Decoder(
        step=step,
        empty=[cache for layer in layers for cache in _empty(g, layer, batch)],
        no_ancestors=g.op(
            "Expand", g.number(0), g.op("Concat", batch, g.ints(1), k, g.ints(0), axis=0)
        ),
        batch=batch,
        shape_with_vocabulary=g.op("Concat", batch, k, g.ints(settings.vocab_size), axis=0),
    )


def _beam_search(
    g: Graph, decoder: _Decoder, settings: Settings, beams: str, length: str, stop: str
) -> list[str]:
    """The records of all steps, as `translator` describes them."""
    k = g.op("Reshape", beams, g.ints(1))
    candidates = g.op("Mul", k, g.ints(2))
    each = g.op("Min", candidates, g.ints(settings.vocab_size))
    shape = g.op("Concat", decoder.batch, k, axis=0)
    hypotheses = g.op("Range", g.integer(0), beams, g.integer(1))
    is_first = g.op("Equal", hypotheses, g.integer(0))
    scores = g.op("Where", is_first, g.number(0), g.number(IMPOSSIBLE))
    # index of the first hypothesis of each sentence among all
    offsets = g.op(
        "Mul", g.op("Range", g.integer(0), _scalar(g, decoder.batch), g.integer(1)), beams
    )
    offsets = g.op("Unsqueeze", offsets, g.ints(1))
    may_count = g.op(
        "Less", g.op("Range", g.integer(0), _scalar(g, candidates), g.integer(1)), beams
    )
    extensions = g.op("Concat", decoder.batch, g.op("Mul", k, each), axis=0)
    last_turn = g.op("Sub", length, g.integer(1))
    allowed = np.zeros((2, settings.vocab_size), np.float32)
    allowed[0, list(settings.never)] = IMPOSSIBLE
    allowed[1] = IMPOSSIBLE
    allowed[1, settings.eos_id] = 0

    def turn(body: Graph, position: str, states: list[str]) -> tuple:
        tokens, scores, finished, ancestors, *caches = states
        logits, caches, ancestors = decoder.step(body, tokens, position, caches, ancestors)
        log_p = body.op("LogSoftmax", logits, axis=-1)
        must_end = body.op("Cast", body.op("Equal", position, last_turn), to=7)
        log_p = body.op("Add", log_p, body.op("Gather", g_allowed, must_end))
        best, words = body.ops("TopK", log_p, each, outputs=2)
        before = body.op("Reshape", scores, body.ints(-1, 1))
        total = body.op("Reshape", body.op("Add", best, before), extensions)
        total, place = body.ops("TopK", total, candidates, outputs=2)
        origin = body.op("Div", place, each)
        token = body.op("GatherElements", body.op("Reshape", words, extensions), place, axis=1)
        ends = body.op("Equal", token, body.integer(settings.eos_id))
        exists = body.op("Greater", total, body.number(IMPOSSIBLE / 2))
        complete = body.op("And", body.op("And", ends, exists), may_count)
        count = body.op("ReduceSum", body.op("Cast", complete, to=7), body.ints(1), keepdims=0)
        finished = body.op("Add", finished, count)
        living = body.op("Where", ends, body.number(2 * IMPOSSIBLE), total)
        scores, live = body.ops("TopK", living, k, outputs=2)
        tokens = body.op("GatherElements", token, live, axis=1)
        rows = body.op("Add", body.op("GatherElements", origin, live, axis=1), offsets)
        ancestors = body.op("Reshape", ancestors, flat_ancestors)
        ancestors = body.op("Gather", ancestors, rows)  # [B, k, t·k]
        ancestors = body.op("Unsqueeze", ancestors, body.ints(1))
        least = body.op("ReduceMin", finished, body.ints(0), keepdims=0)
        return (
            body.op("Less", least, stop),
            [tokens, scores, finished, ancestors, *caches],
            [(total, np.float32), (token, np.int64), (origin, np.int64)],
        )

    g_allowed = g.constant(allowed)
    flat_ancestors = g.op("Concat", g.op("Mul", decoder.batch, k), g.ints(-1), axis=0)
    states = [
        (g.op("Expand", g.integer(settings.eos_id), shape), np.int64),
        (g.op("Expand", scores, shape), np.float32),
        (g.op("Expand", g.integer(0), decoder.batch), np.int64),
        (decoder.no_ancestors, np.float32),
        *((cache, np.float32) for cache in decoder.empty),
    ]
    return g.loop(length, g.constant(True), states, turn)[1]


def _memory(g: Graph, arch: Arch, layer: LayerPlan, encoded: _Encoded) -> tuple[KeysValues, str]:
    """Keys and values of a decoder layer's cross attention, the last encoder layers concatenated,
    and the mask.
    """
    count = int(arch.cross_layers[layer.index])
    newest = encoded.layers[::-1][:count]
    if count == 1:
        return looked_up(g, layer, newest[0], encoded.rows), encoded.mask
    width = embed_dim(arch, ENCODER)
    memory = g.op("Concat", *[encoded.rows.split(g, x, width) for x in newest], axis=1)
    memory = g.op("Reshape", memory, g.ints(-1, width))
    rows = Rows(g.op("Mul", encoded.rows.length, g.integer(count)))
    return looked_up(g, layer, memory, rows), g.op("Concat", *[encoded.mask] * count, axis=3)


def _empty(g: Graph, layer: LayerPlan, batch: str) -> KeysValues:
    heads = layer.self_heads
    ends = g.ints(heads, 0, layer.qkv_dim // heads)
    empty = g.op("Expand", g.number(0), g.op("Concat", g.ints(1), batch, ends, axis=0))
    return KeysValues(empty, empty)


def _table(g: Graph, arch: Arch, settings: Settings, weights: Weights, side: str) -> Table:
    """The embeddings of a side; an equal width's are stored once."""
    whole = np.asarray(weights["embedding"]["table"], np.float32)
    return table(g, whole[:, : embed_dim(arch, side)], settings)


def _positions(g: Graph, arch: Arch, settings: Settings, side: str) -> str:
    most = settings.max_source if side == ENCODER else settings.max_target
    rows = sinusoids(settings.pad_id + 1 + most, settings.super_dim(side), settings.pad_id)
    return g.constant(rows[:, : embed_dim(arch, side)])


def _draw(settings: Settings) -> str | None:
    return routing.ROUTERS.find(settings.router.kind).draw(settings.router)


def _first(
    g: Graph,
    arch: Arch,
    settings: Settings,
    side: str,
    tokens: str | None,
    sentences: str | None,
    positions: str | None,
) -> str | None:
    """The experts that random routes start at, int64 [..., L]."""
    draw = _draw(settings)
    counts = [len(widths) for widths in getattr(arch, f"{side}_experts")]
    numbers = [layer_number(side, i) for i in range(len(counts))]
    if draw is None:
        return None
    if draw == routing.WORD:
        tables = [
            routing.fixed_experts(settings.router, number, count, settings.vocab_size)
            for number, count in zip(numbers, counts, strict=True)
        ]
        assert tokens is not None
        return g.op("Gather", g.constant(np.stack(tables, axis=1)), tokens)
    assert sentences is not None
    own = g.op("Unsqueeze", sentences, g.ints(1))
    if draw == routing.SENTENCE:
        identity = own
    else:
        assert positions is not None
        turned = g.op("Unsqueeze", sentences, g.ints(0)) if side == DECODER else own
        identity = routing.hashed_positions(g, turned, positions)
    first = routing.first_experts(g, identity, settings.router, numbers, counts)
    if draw == routing.SENTENCE and positions is not None:  # [B, 1, L] → [B, S, L]
        shape = g.op("Concat", g.op("Shape", positions), g.ints(1), axis=0)
        return g.op("Expand", first, shape)
    return first


def _first_of_step(
    g: Graph,
    arch: Arch,
    settings: Settings,
    draws: str | None,
    tokens: str,
    position: str,
    shape: str,
) -> str | None:
    """int64 [N, L] for the hypotheses of a step."""
    if _draw(settings) == routing.WORD:
        return _first(g, arch, settings, DECODER, tokens, None, None)
    if draws is None:
        return None
    if _draw(settings) == routing.POSITION:
        draws = g.op("Unsqueeze", g.op("Gather", draws, position), g.ints(1))  # [B, 1, L]
    each = g.op("Expand", draws, g.root.shared("Concat", shape, g.root.ints(1), axis=0))
    return g.op("Reshape", each, g.ints(-1, arch.decoder_layers))


def _eye(g: Graph, size: str) -> str:
    """float32 [size, size]: the identity matrix."""
    numbers = g.op("Range", g.integer(0), size, g.integer(1))
    same = g.op("Equal", numbers, g.op("Unsqueeze", numbers, g.ints(1)))
    return g.op("Cast", same, to=1)


def _scalar(g: Graph, vector: str) -> str:
    return g.op("Squeeze", vector)
