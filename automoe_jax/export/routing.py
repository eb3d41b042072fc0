"""Routers as ONNX operators: gates [N, E] of a layer's tokens, 0 for experts that a token does not
use.

Axes: B sentences · S, T positions · N tokens · E experts · L layers.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from automoe_jax.errors import UserError
from automoe_jax.export.graph import Graph
from automoe_jax.ops.constants import MURMUR, ROUNDING, SPREAD
from automoe_jax.routers import RouterConfig

WORD, POSITION, SENTENCE = "word", "position", "sentence"
_MASK = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Layer:
    """Inputs of a router: a layer and its tokens."""

    experts: int
    top_k: int
    tokens: str  # int64 [1]: N
    logits: str | None  # float32 [N, E], of a router with parameters
    importance: str | None  # float32 [N]
    first: str | None  # int64 [N]: the expert that a random route starts at


@dataclasses.dataclass(frozen=True)
class Router:
    """The graph of a kind of router."""

    gates: Callable[[Graph, Layer, RouterConfig], str]
    # dependence of a random route: WORD, POSITION or SENTENCE
    draw: Callable[[RouterConfig], str | None] = lambda router: None


def _top_k(g: Graph, layer: Layer, router: RouterConfig) -> str:
    probabilities = _probabilities(g, layer)
    values, chosen = g.ops("TopK", probabilities, g.ints(layer.top_k), outputs=2)
    if router.gate == "one":
        values = g.op("Cast", g.op("Greater", values, g.number(0)), to=1)
    return _scattered(g, probabilities, chosen, values)


def _by_importance(g: Graph, layer: Layer, router: RouterConfig) -> str:
    assert layer.importance is not None
    probabilities = _probabilities(g, layer)
    values, chosen = g.ops("TopK", probabilities, g.ints(layer.experts), outputs=2)
    wanted = g.op("Mul", layer.importance, g.number(layer.experts))
    wanted = g.op("Ceil", g.op("Sub", wanted, g.number(ROUNDING)))
    wanted = g.op("Clip", wanted, g.number(1), g.number(layer.experts))
    ranks = g.constant(np.arange(layer.experts), np.float32)
    made = g.op("Cast", g.op("Less", ranks, g.op("Unsqueeze", wanted, g.ints(1))), to=1)
    kept = g.op("Mul", values, made)
    if router.renormalise:
        kept = g.op("Div", kept, g.op("ReduceSum", kept, g.ints(1)))
    return _scattered(g, probabilities, chosen, kept)


def _at_random(g: Graph, layer: Layer, router: RouterConfig) -> str:
    if layer.first is None:  # the mean of all
        even = g.constant(np.full((1, layer.experts), 1 / layer.experts), np.float32)
        return g.op("Expand", even, g.op("Concat", layer.tokens, g.ints(1), axis=0))
    first = np.arange(layer.experts)
    table = np.zeros((layer.experts, layer.experts), np.float32)
    for step in range(layer.top_k):
        table[first, (first + step) % layer.experts] = 1 / layer.top_k
    return g.op("Gather", g.constant(table), layer.first)


def _probabilities(g: Graph, layer: Layer) -> str:
    assert layer.logits is not None
    return g.op("Softmax", layer.logits, axis=-1)


def _scattered(g: Graph, like: str, chosen: str, values: str) -> str:
    """values [N, K] in the columns chosen [N, K] of zeros as large as `like` [N, E]."""
    return g.op("ScatterElements", g.op("Sub", like, like), chosen, values, axis=1)


def mixed_number(x: int) -> int:
    """The finaliser of MurmurHash3 on 32 bits, as in ops.hashing."""
    for shift, factor in MURMUR:
        x = ((x ^ (x >> shift)) * factor) & _MASK
    return x ^ (x >> 16)


def mixed(g: Graph, x: str) -> str:
    """`mixed_number` of each of x, int64 in [0, 2³²)."""
    for shift, factor in MURMUR:
        x = g.op("BitwiseXor", x, g.op("Div", x, g.integer(1 << shift)))
        x = g.op("BitwiseAnd", g.op("Mul", x, g.integer(factor)), g.integer(_MASK))
    return g.op("BitwiseXor", x, g.op("Div", x, g.integer(1 << 16)))


def wrapped(g: Graph, x: str) -> str:
    """x modulo 2³²."""
    return g.op("BitwiseAnd", x, g.integer(_MASK))


def hashed_sentences(g: Graph, tokens: str, real: str) -> str:
    """int64 [B]: a number for each sentence of tokens [B, S] where real (int64) is 1, as in
    ops.hashing.
    """
    place = wrapped(g, g.op("Mul", g.op("CumSum", real, g.integer(1)), g.integer(SPREAD)))
    each = g.op("Mul", mixed(g, wrapped(g, g.op("Add", tokens, place))), real)
    return wrapped(g, g.op("ReduceSum", each, g.ints(1), keepdims=0))


def hashed_positions(g: Graph, sentences: str, positions: str) -> str:
    """int64: one hash per position of each sentence; both broadcast."""
    place = wrapped(g, g.op("Mul", positions, g.integer(SPREAD)))
    return mixed(g, wrapped(g, g.op("Add", sentences, place)))


def first_experts(
    g: Graph, identity: str, router: RouterConfig, numbers: Sequence[int], experts: Sequence[int]
) -> str:
    """int64 [..., L]: the expert of each layer, of its number and count, that a random route of
    `identity` starts at.
    """
    seed = mixed_number(router.seed & _MASK)
    own = mixed(g, g.op("BitwiseXor", identity, g.integer(seed)))
    layers = g.op("Add", g.op("Unsqueeze", own, g.ints(-1)), g.constant(numbers, np.int64))
    return g.op("Mod", mixed(g, wrapped(g, layers)), g.constant(experts, np.int64))


def fixed_experts(router: RouterConfig, number: int, experts: int, vocab_size: int) -> np.ndarray:
    """int64 [V]: `first_experts` of every word."""
    seed = mixed_number(router.seed & _MASK)
    return np.array(
        [
            mixed_number((mixed_number(word ^ seed) + number) & _MASK) % experts
            for word in range(vocab_size)
        ],
        np.int64,
    )


def _draw(router: RouterConfig) -> str | None:
    """Dependence of a random route in inference; None for the mean of all experts."""
    if router.draw == "fixed":
        return WORD
    return {"token": POSITION, "sentence": SENTENCE, "mean": None}[router.inference]


TOP_K = Router(_top_k)
IMPORTANCE = Router(_by_importance)
RANDOM = Router(_at_random, _draw)


def graph_of(router: RouterConfig) -> Router:
    """The graph of a router; raises `UserError` if its declaration has none."""
    load = router.declaration.graph
    if load is None:
        raise UserError(
            f"config.router.kind={router.kind!r} cannot be exported to ONNX: its RouterDeclaration"
            " has no `graph`; add one, or translate with --engine=jax"
        )
    graph: Router = load()
    return graph
