"""The decoder, one step at a time with a cache, as ONNX operators.

Axes: B sentences · S source tokens · T target tokens · k beams · t steps before this one · D
embedding width · N = B · k · V vocabulary · L layers.
"""

import dataclasses
from typing import NamedTuple

from automoe_jax.arch import DECODER, ENCODER, Arch
from automoe_jax.export import routing
from automoe_jax.export.encoder import (
    Encoded,
    draw,
    final_norm,
    first_experts,
    position_rows,
    tables,
)
from automoe_jax.export.graph import Graph
from automoe_jax.export.layers import (
    Seen,
    Tokens,
    TrainedLayer,
    decoder_layer,
    looked_up,
    trained_layer,
)
from automoe_jax.export.parts import KeysValues, Rows, Table, embedded, projected
from automoe_jax.export.settings import Settings, Weights, embed_dim
from automoe_jax.ops.constants import MASKED


class Sentences(NamedTuple):
    """Arrays that all steps use."""

    # keys [1,B,P,W,S] and values [1,B,P,S,W] for each layer with cross attention
    memories: list[str]
    masks: list[str]  # float32 [B,1,1,S]
    draws: list[str]  # int64 [B,T or 1,L]: where random routes start; none without these
    # float32 [B,1,C], added to the logits of a shortlist; none before the search
    shortlists: list[str]


SENTENCE_AXES = (1, 0, 0, 0)  # of the arrays of each field of `Sentences`


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The decoder of a batch."""

    arch: Arch
    settings: Settings
    layers: list[TrainedLayer]
    weights: Weights
    inputs: Table
    outputs: Table
    positions: str  # the constant of the sinusoids
    mask_of_layer: list[int]  # which of the masks each layer needs; 0 without cross attention
    beams: str  # int64 [1]: k

    def empty(self, g: Graph, batch: str) -> list[str]:
        """A key's and a value's cache [1,B,P,0,W] for each layer with self-attention; batch: int64
        [1], B.
        """
        caches = []
        for heads, layer in ((one.self_heads, one) for one in self.layers if one.self_heads):
            ends = g.ints(heads, 0, layer.qkv_dim // heads)
            shape = g.op("Concat", g.ints(1), batch, ends, axis=0)
            caches += [g.op("Expand", g.number(0), shape)] * 2
        return caches

    def no_ancestors(self, g: Graph, batch: str) -> str:
        """float32 [B,1,k,0]."""
        shape = g.op("Concat", batch, g.ints(1), self.beams, g.ints(0), axis=0)
        return g.op("Expand", g.number(0), shape)

    def own_entries(self, g: Graph, batch: str) -> str:
        """float32 [B,1,k,k], added to scores: a hypothesis sees its own entry of this step."""
        size = g.op("Squeeze", self.beams)
        numbers = g.op("Range", g.integer(0), size, g.integer(1))
        same = g.op("Equal", numbers, g.op("Unsqueeze", numbers, g.ints(1)))
        own = g.op("Where", same, g.number(0), g.number(MASKED))
        shape = g.op("Concat", batch, g.ints(1), self.beams, self.beams, axis=0)
        return g.op("Expand", own, shape)

    def step(
        self,
        g: Graph,
        tokens: str,
        position: str,
        caches: list[str],
        ancestors: str,
        own_entries: str,
        sentences: Sentences,
    ) -> tuple[str, list[str], str, list[Seen]]:
        """tokens [B,k] at `position` [] → states [N,D], the caches and ancestors with this step,
        and the decisions of each layer.

        ancestors [B,1,k,t·k] is added to scores: the entries that a hypothesis descends from.
        """
        row = g.op("Add", position, g.integer(self.settings.pad_id + 1))
        flat = g.op("Reshape", tokens, g.ints(-1))
        y = embedded(g, self.inputs, flat, g.op("Gather", self.positions, row))
        ancestors = g.op("Concat", ancestors, own_entries, axis=3)
        routed = Tokens(Rows(self.beams), None, self._first(g, tokens, position, sentences))
        written: list[str] = []
        seen: list[Seen] = []
        past, memories = iter(caches), iter(sentences.memories)
        for i, layer in enumerate(self.layers):
            y, cache, decisions = decoder_layer(
                g,
                layer,
                y,
                KeysValues(next(past), next(past)) if layer.self_heads else None,
                ancestors,
                KeysValues(next(memories), next(memories)) if layer.cross_heads else None,
                sentences.masks[self.mask_of_layer[i]],
                routed,
            )
            written += cache or ()
            seen.append(decisions)
        return final_norm(g, self.settings, self.weights, DECODER, y), written, ancestors, seen

    def logits(self, g: Graph, y: str) -> str:
        """y [N,D] → [N,V]."""
        return projected(g, y, self.outputs, self.settings.precision)

    def _first(self, g: Graph, tokens: str, position: str, sentences: Sentences) -> str | None:
        """int64 [N, L]: the experts that random routes of a step start at."""
        way, count = draw(self.settings), len(self.layers)
        if way is None:
            return None
        if way == routing.WORD:
            first = first_experts(g, self.arch, self.settings, DECODER, tokens, None, None)
            assert first is not None
            return g.op("Reshape", first, g.ints(-1, count))
        (draws,) = sentences.draws
        if way == routing.POSITION:
            draws = g.op("Gather", draws, g.op("Reshape", position, g.ints(1)), axis=1)
        shape = g.op("Concat", g.op("Shape", tokens), g.ints(1), axis=0)
        return g.op("Reshape", g.op("Expand", draws, shape), g.ints(-1, count))


def decoder_of(
    g: Graph,
    arch: Arch,
    settings: Settings,
    weights: Weights,
    encoded: Encoded,
    beams: str,
    length: str,
) -> tuple[Decoder, Sentences]:
    """The decoder over the encoder's output; beams and length: int64 [], k and T."""
    layers = [
        trained_layer(arch, DECODER, i, weights, settings) for i in range(arch.decoder_layers)
    ]
    attending = [layer for layer in layers if layer.cross_heads]
    depths = sorted({int(arch.cross_layers[layer.index]) for layer in attending})
    decoder = Decoder(
        arch,
        settings,
        layers,
        weights,
        *tables(arch, settings, weights),
        g.constant(position_rows(arch, settings, DECODER)),
        [
            depths.index(int(arch.cross_layers[layer.index])) if layer.cross_heads else 0
            for layer in layers
        ],
        g.op("Reshape", beams, g.ints(1)),
    )
    masks = [
        encoded.mask if depth == 1 else g.op("Concat", *[encoded.mask] * depth, axis=3)
        for depth in depths
    ]
    memories = [part for layer in attending for part in _memory(g, arch, layer, encoded)]
    positions = None
    if draw(settings) == routing.POSITION:
        steps = g.op("Range", g.integer(0), length, g.integer(1))
        positions = g.op("Unsqueeze", steps, g.ints(0))
    draws = None
    if draw(settings) in (routing.POSITION, routing.SENTENCE):
        draws = first_experts(g, arch, settings, DECODER, None, encoded.sentences, positions)
    return decoder, Sentences(memories, masks, [] if draws is None else [draws], [])


def _memory(g: Graph, arch: Arch, layer: TrainedLayer, encoded: Encoded) -> KeysValues:
    """Keys and values of a layer's cross attention, of the last encoder layers in turn."""
    count = int(arch.cross_layers[layer.index])
    newest = encoded.layers[::-1][:count]
    if count == 1:
        return looked_up(g, layer, newest[0], encoded.rows)
    width = embed_dim(arch, ENCODER)
    memory = g.op("Concat", *[encoded.rows.split(g, x, width) for x in newest], axis=1)
    memory = g.op("Reshape", memory, g.ints(-1, width))
    rows = Rows(g.op("Mul", encoded.rows.length, g.integer(count)))
    return looked_up(g, layer, memory, rows)
