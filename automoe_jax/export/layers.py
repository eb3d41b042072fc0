"""Layers of the encoder and the decoder as ONNX operators.

Axes: B sentences · T positions or hypotheses · S keys · D embedding width · N = B · T tokens.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from automoe_jax.arch import DECODER, Arch
from automoe_jax.export.experts import experts_of, ffn, mixture
from automoe_jax.export.graph import Graph
from automoe_jax.export.parts import (
    Attended,
    KeysValues,
    Rows,
    attention,
    heads_of,
    linear,
    normalised,
    operand,
    transposed_keys,
)
from automoe_jax.export.routing import Layer, graph_of
from automoe_jax.export.settings import Settings, Weights, embed_dim

# parts of routers.IMPORTANCES: what a token receives; relative to the largest of its sentence
RECEIVED, RELATIVE = "received", "relative_"
_TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Properties of tokens that layers need in addition to hidden states."""

    rows: Rows
    counted: str | None = None  # float32 [N], 0 for padding; None: there is none
    first: str | None = None  # int64 [N, L]: the expert that a random route starts at


@dataclasses.dataclass(frozen=True)
class TrainedLayer:
    """One layer of an architecture with its weights."""

    side: str
    index: int
    embed_dim: int
    qkv_dim: int
    self_heads: int  # 0: without self-attention
    cross_heads: int  # 0: without cross attention
    widths: tuple[int, ...]  # of the experts; (): without an FFN
    top_k: int
    weights: Weights
    settings: Settings

    @property
    def importance(self) -> str | None:
        """The attention that the router of this layer needs."""
        if len(self.widths) <= 1:
            return None
        router = self.settings.router
        return router.declaration.importance(router, self.side == DECODER)


def trained_layer(
    arch: Arch, side: str, index: int, weights: Weights, settings: Settings
) -> TrainedLayer:
    """Layer `index` of a side."""
    return TrainedLayer(
        side=side,
        index=index,
        embed_dim=embed_dim(arch, side),
        qkv_dim=int(arch.qkv_dim),
        self_heads=int(getattr(arch, f"{side}_self_heads")[index]),
        cross_heads=int(arch.decoder_cross_heads[index]) if side == DECODER else 0,
        widths=getattr(arch, f"{side}_experts")[index],
        top_k=int(getattr(arch, f"{side}_top_k")[index]),
        weights=weights[side][f"layer_{index}"],
        settings=settings,
    )


class Seen(NamedTuple):
    """Decisions of a decoder layer, for explanations."""

    attention: str | None  # float32 [1,B,P,T,S] of the cross attention
    gates: str | None  # float32 [N,E] of the FFN


def encoder_layer(
    g: Graph, layer: TrainedLayer, x: str, mask: str, tokens: Tokens
) -> tuple[str, str | None]:
    """x [N,D], mask [B,1,1,S] added to the scores → [N,D] and gates [N,E], if it has an FFN."""
    if not layer.self_heads:
        return _experts(g, layer, x, tokens, None)
    query, now = _projected(g, layer, _before(g, layer, "self_attention_norm", x), tokens.rows)
    attended = attention(g, query, transposed_keys(g, now.key), now.value, mask, layer.qkv_dim)
    x = _after_self_attention(g, layer, x, attended)
    return _experts(g, layer, x, tokens, _importance(g, layer, attended, tokens))


def decoder_layer(
    g: Graph,
    layer: TrainedLayer,
    y: str,
    cache: KeysValues | None,
    ancestors: str,
    memory: KeysValues | None,
    memory_mask: str,
    tokens: Tokens,
) -> tuple[str, KeysValues | None, Seen]:
    """One position of k hypotheses. y [N,D], cache [1,B,P,t·k,W], ancestors [B,1,k,(t+1)·k] and
    memory_mask [B,1,1,S], added to the scores → y, the cache with this position, and decisions.

    `memory.key` is transposed, [1,B,P,W,S]. A layer without self-attention has no cache, one
    without cross attention no memory.
    """
    importance, attention = None, None
    if cache is not None:
        y, cache, importance = _attended_past(g, layer, y, cache, ancestors, tokens)
    if memory is not None:
        y, attention = _attended_memory(g, layer, y, memory, memory_mask, tokens)
    y, gates = _experts(g, layer, y, tokens, importance)
    return y, cache, Seen(attention, gates)


def _attended_past(
    g: Graph, layer: TrainedLayer, y: str, cache: KeysValues, ancestors: str, tokens: Tokens
) -> tuple[str, KeysValues, str | None]:
    """The self-attention of `decoder_layer`: y, the cache, the importance of the tokens."""
    query, now = _projected(g, layer, _before(g, layer, "self_attention_norm", y), tokens.rows)
    cache = KeysValues(
        *(g.op("Concat", past, own, axis=3) for past, own in zip(cache, now, strict=True))
    )
    attended = attention(
        g, query, transposed_keys(g, cache.key), cache.value, ancestors, layer.qkv_dim
    )
    y = _after_self_attention(g, layer, y, attended)
    return y, cache, _importance(g, layer, attended, tokens)


def _attended_memory(
    g: Graph, layer: TrainedLayer, y: str, memory: KeysValues, memory_mask: str, tokens: Tokens
) -> tuple[str, str]:
    """The cross attention of `decoder_layer`: y and the attention's weights."""
    own = layer.weights["cross_attention"]
    scale = (layer.cross_heads / layer.qkv_dim) ** 0.5
    x = operand(g, _before(g, layer, "cross_attention_norm", y), layer.settings.precision)
    (query,) = heads_of(
        g, linear(g, x, own["q"], scale), tokens.rows, 1, layer.cross_heads, layer.qkv_dim
    )
    seen = attention(g, query, memory.key, memory.value, memory_mask, layer.qkv_dim)
    out = linear(g, operand(g, seen.mixed, layer.settings.precision), own["out"])
    return _after(g, layer, "cross_attention_norm", y, out), seen.weights


def looked_up(g: Graph, layer: TrainedLayer, memory: str, rows: Rows) -> KeysValues:
    """Keys and values of a decoder layer's cross attention for memory [N,M]; the keys are
    transposed.
    """
    both = linear(
        g, operand(g, memory, layer.settings.precision), layer.weights["cross_attention"]["kv"]
    )
    key, value = heads_of(g, both, rows, 2, layer.cross_heads, layer.qkv_dim)
    return KeysValues(transposed_keys(g, key), value)


def _projected(g: Graph, layer: TrainedLayer, x: str, rows: Rows) -> tuple[str, KeysValues]:
    """x [N,D] → scaled queries, keys and values [1,B,P,T,W]."""
    own = layer.weights["self_attention"]["qkv"]
    kernel, bias = (np.array(own[name], np.float32) for name in ("kernel", "bias"))
    scale = np.float32((layer.self_heads / layer.qkv_dim) ** 0.5)
    kernel[:, 0] *= scale
    bias[0] *= scale
    joint = linear(g, operand(g, x, layer.settings.precision), {"kernel": kernel, "bias": bias})
    query, key, value = heads_of(g, joint, rows, 3, layer.self_heads, layer.qkv_dim)
    return query, KeysValues(key, value)


def _after_self_attention(g: Graph, layer: TrainedLayer, x: str, attended: Attended) -> str:
    out = linear(
        g,
        operand(g, attended.mixed, layer.settings.precision),
        layer.weights["self_attention"]["out"],
    )
    return _after(g, layer, "self_attention_norm", x, out)


def _before(g: Graph, layer: TrainedLayer, norm: str, x: str) -> str:
    """Input of a branch: the residual stream, normalised with pre-norm."""
    return normalised(g, x, layer.weights[norm]) if layer.settings.norm == "pre" else x


def _after(g: Graph, layer: TrainedLayer, norm: str, x: str, y: str) -> str:
    """The residual stream after the branch y was added, normalised with post-norm."""
    summed = g.op("Add", x, y)
    return summed if layer.settings.norm == "pre" else normalised(g, summed, layer.weights[norm])


def _importance(g: Graph, layer: TrainedLayer, attended: Attended, tokens: Tokens) -> str | None:
    """float32 [N]: the largest weight [1,B,P,T,S] that a token gives to a key or gets from a
    counted query, the mean over the heads.
    """
    kind = layer.importance
    if kind is None:
        return None
    weights, relative = attended.weights, kind.startswith(RELATIVE)
    received = kind.removeprefix(RELATIVE) == RECEIVED
    if received and tokens.counted is not None:
        queries = tokens.rows.split(g, tokens.counted, 1)  # [B, T, 1]
        weights = g.op("Mul", weights, g.op("Unsqueeze", queries, g.ints(0, 2)))
    largest = g.op("ReduceMax", weights, g.ints(3 if received else 4), keepdims=0)
    importance = g.op("ReduceMean", largest, g.ints(2), keepdims=0)  # [1, B, T or S]
    if relative:
        own = importance
        if tokens.counted is not None:
            own = g.op(
                "Mul", own, g.op("Squeeze", tokens.rows.split(g, tokens.counted, 1), g.ints(2))
            )
        most = g.op("Max", g.op("ReduceMax", own, g.ints(2)), g.number(_TINY))
        importance = g.op("Min", g.op("Div", importance, most), g.number(1))
    return g.op("Reshape", importance, g.ints(-1))


def _experts(
    g: Graph, layer: TrainedLayer, x: str, tokens: Tokens, importance: str | None
) -> tuple[str, str | None]:
    """The experts' residual block on x [N,D], and the gates [N,E]; of a single expert [1,1], none
    where the FFN is skipped.
    """
    if not layer.widths:
        return x, None
    weights = layer.weights.get("experts", {})
    experts = experts_of(weights, layer.widths)
    seen = _before(g, layer, "experts_norm", x)
    if len(experts) == 1:
        (only,) = experts
        gates = g.constant(np.ones((1, 1), np.float32))
        precision = layer.settings.precision
        y = seen if only is None else ffn(g, operand(g, seen, precision), only, precision)
    else:
        gates = _gates(g, layer, seen, tokens, importance, weights)
        y = mixture(g, seen, gates, experts, layer.settings)
    return _after(g, layer, "experts_norm", x, y), gates


def _gates(
    g: Graph,
    layer: TrainedLayer,
    x: str,
    tokens: Tokens,
    importance: str | None,
    weights: Any,
) -> str:
    """float32 [N, E] for the tokens x [N, D]."""
    router, count = layer.settings.router, len(layer.widths)
    logits, first = None, None
    if router.declaration.gated:
        kernel, bias = (
            g.constant(weights[name], np.float32) for name in ("router_kernel", "router_bias")
        )
        logits = g.op("Gemm", x, kernel, bias)
    if tokens.first is not None:
        first = g.op("Gather", tokens.first, g.integer(layer.index), axis=1)
    size = g.op("Shape", x, start=0, end=1)
    chosen = Layer(count, layer.top_k, size, logits, importance, first)
    gates = graph_of(router).gates(g, chosen, router)
    if tokens.counted is None:
        return gates
    return g.op("Mul", gates, g.op("Reshape", tokens.counted, g.ints(-1, 1)))
