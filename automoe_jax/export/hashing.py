"""Random routes as ONNX operators: the hashes of `ops.hashing` on int64.

Axes: B sentences · S positions · L layers · V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from automoe_jax.export.graph import Graph
from automoe_jax.ops.constants import MURMUR, SPREAD
from automoe_jax.routers import RouterConfig

_MASK = 0xFFFFFFFF


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


def fixed_experts(
    router: RouterConfig, number: int, experts: int, vocab_size: int
) -> Int64[np.ndarray, "V"]:
    """int64 [V]: `first_experts` of every word."""
    seed = mixed_number(router.seed & _MASK)
    return np.array(
        [
            mixed_number((mixed_number(word ^ seed) + number) & _MASK) % experts
            for word in range(vocab_size)
        ],
        np.int64,
    )
