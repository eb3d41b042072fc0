"""The encoder, the embeddings and the random routes as ONNX operators.

Axes: B sentences · S source tokens · T target tokens · k beams · D embedding width · N tokens of
all sentences · V vocabulary · L layers of a side.
"""

from typing import NamedTuple

import numpy as np

from automoe_jax.arch import DECODER, ENCODER, Arch
from automoe_jax.export import hashing, routing
from automoe_jax.export.graph import Graph
from automoe_jax.export.layers import Tokens, encoder_layer, trained_layer
from automoe_jax.export.parts import Rows, Table, embedded, normalised, table
from automoe_jax.export.settings import (
    Settings,
    Weights,
    embed_dim,
    layer_number,
    sinusoids,
)
from automoe_jax.ops.constants import MASKED


class Encoded(NamedTuple):
    """Results of the encoder."""

    layers: list[str]  # [N, D] of each layer, as the decoder sees it
    rows: Rows
    real: str  # float32 [B, S], 0 for padding
    mask: str  # float32 [B, 1, 1, S], added to scores
    sentences: str | None  # int64 [B]: a number for each sentence, for random routes
    # float32 [N, E] of each layer with an FFN, [1, 1] of a single expert
    gates: list[str]


def encode(g: Graph, arch: Arch, settings: Settings, weights: Weights, source: str) -> Encoded:
    """The encoder on source [B,S], padded on the right."""
    is_real = g.op("Not", g.op("Equal", source, g.integer(settings.pad_id)))
    whole, real = g.op("Cast", is_real, to=7), g.op("Cast", is_real, to=1)
    mask = g.op("Where", is_real, g.number(0), g.number(MASKED))
    mask = g.op("Unsqueeze", mask, g.ints(1, 2))
    counted = g.op("CumSum", whole, g.integer(1))
    places = g.op("Add", g.op("Mul", counted, whole), g.integer(settings.pad_id))
    rows, flat = Rows(g.op("Shape", source, start=1, end=2)), g.ints(-1)
    embeddings = _table(arch, settings, weights, settings.input_table(ENCODER), ENCODER)
    positions = g.constant(position_rows(arch, settings, ENCODER))
    x = embedded(
        g,
        embeddings,
        g.op("Reshape", source, flat),
        g.op("Gather", positions, g.op("Reshape", places, flat)),
    )
    sentences = None
    if draw(settings) in (routing.POSITION, routing.SENTENCE):
        sentences = hashing.hashed_sentences(g, source, whole)
    place = g.op("Sub", counted, g.integer(1))
    first = first_experts(g, arch, settings, ENCODER, source, sentences, place)
    if first is not None:
        first = g.op("Reshape", first, g.ints(-1, arch.encoder_layers))
    tokens = Tokens(rows, g.op("Reshape", real, flat), first)
    outputs, gates = [], []
    for i in range(arch.encoder_layers):
        x, own = encoder_layer(
            g, trained_layer(arch, ENCODER, i, weights, settings), x, mask, tokens
        )
        gates += [] if own is None else [own]
        outputs.append(final_norm(g, settings, weights, ENCODER, x))
    return Encoded(outputs, rows, real, mask, sentences, gates)


def tables(arch: Arch, settings: Settings, weights: Weights) -> tuple[Table, Table]:
    """The tables of the decoder's embeddings and of its outputs, one where they are shared."""
    inputs = _table(arch, settings, weights, settings.input_table(DECODER), DECODER)
    if settings.output_table == settings.input_table(DECODER):
        return inputs, inputs
    return inputs, _table(arch, settings, weights, settings.output_table, DECODER)


def final_norm(g: Graph, settings: Settings, weights: Weights, side: str, x: str) -> str:
    """x [N, D] as it leaves a side: normalised with pre-norm."""
    return normalised(g, x, weights[side]["final_norm"]) if settings.norm == "pre" else x


def position_rows(arch: Arch, settings: Settings, side: str) -> np.ndarray:
    """The sinusoids of a side, float32 [rows, D]."""
    most = settings.max_source if side == ENCODER else settings.max_target
    rows = sinusoids(settings.pad_id + 1 + most, settings.super_dim(side), settings.pad_id)
    return rows[:, : embed_dim(arch, side)]


def draw(settings: Settings) -> str | None:
    """Dependence of random routes (`routing.Router.draw`); None where there are none."""
    return routing.graph_of(settings.router).draw(settings.router)


def first_experts(
    g: Graph,
    arch: Arch,
    settings: Settings,
    side: str,
    tokens: str | None,
    sentences: str | None,
    positions: str | None,
) -> str | None:
    """The experts that random routes start at, int64 […, L], for tokens […], sentences [B, 1] or
    [B], and positions that broadcast with them.
    """
    way = draw(settings)
    counts = [max(1, len(widths)) for widths in getattr(arch, f"{side}_experts")]
    numbers = [layer_number(side, i) for i in range(len(counts))]
    if way is None:
        return None
    if way == routing.WORD:
        tables = [
            hashing.fixed_experts(settings.router, number, count, settings.side_size(side))
            for number, count in zip(numbers, counts, strict=True)
        ]
        assert tokens is not None
        return g.op("Gather", g.constant(np.stack(tables, axis=1)), tokens)
    assert sentences is not None
    identity = g.op("Unsqueeze", sentences, g.ints(1))
    if way == routing.POSITION:
        assert positions is not None
        identity = hashing.hashed_positions(g, identity, positions)
    first = hashing.first_experts(g, identity, settings.router, numbers, counts)
    if way == routing.SENTENCE and positions is not None:  # [B, 1, L] → [B, S, L]
        shape = g.op("Concat", g.op("Shape", positions), g.ints(1), axis=0)
        return g.op("Expand", first, shape)
    return first


def _table(arch: Arch, settings: Settings, weights: Weights, name: str, side: str) -> Table:
    rows = np.asarray(weights[name]["table"], np.float32)[:, : embed_dim(arch, side)]
    return table(rows, settings)
