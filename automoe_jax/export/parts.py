"""Parts of the Transformer as ONNX operators: products with weights, normalisation, attention.

Axes: B sentences · T queries · S keys · D embedding width · Q query width · P heads · W width of a
head · I and O input and output width of a product · V vocabulary · C candidates.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int8

from automoe_jax.export.graph import Graph
from automoe_jax.export.settings import INT8, Settings, Weights
from automoe_jax.ops.constants import EPSILON, MASKED


class Operand(NamedTuple):
    """Left side of products with weights, quantised once for all of them."""

    value: str  # float32 [N, I]
    quantised: tuple[str, str, str] | None  # uint8 values, scale, zero point


def operand(g: Graph, x: str, precision: str) -> Operand:
    """x for `product`."""
    if precision != INT8:
        return Operand(x, None)
    values, scale, zero = g.ops("DynamicQuantizeLinear", x, outputs=3)
    return Operand(x, (values, scale, zero))


def product(
    g: Graph, x: Operand, kernel: Float[np.ndarray, "I O"], bias: Float[np.ndarray, "O"]
) -> str:
    """x [N, I] · kernel [I, O] + bias [O], in 8-bit integers where x is quantised."""
    if x.quantised is None:
        return g.op("Gemm", x.value, g.constant(kernel), g.constant(bias))
    integers, scales = quantised(kernel)
    scaled = _integer_product(g, x, g.constant(integers), g.constant(scales))
    return g.op("Add", scaled, g.constant(bias))


def _integer_product(g: Graph, x: Operand, kernel: str, scales: str) -> str:
    """ONNX Runtime fuses this pattern, with a bias, into one operator."""
    assert x.quantised is not None
    values, scale, zero = x.quantised
    summed = g.op("MatMulInteger", values, kernel, zero, g.constant(np.int8(0)))
    return g.op("Mul", g.op("Cast", summed, to=1), g.op("Mul", scale, scales))


# x86 processors without VNNI add two products with inputs of at most 255 in 16 bits, and cut off
# what exceeds them: 2 · 255 · 64 < 2¹⁵.
LARGEST_WEIGHT = 64


def quantised(
    kernel: Float[np.ndarray, "I O"],
) -> tuple[Int8[np.ndarray, "I O"], Float32[np.ndarray, "O"]]:
    """Integers [I, O] from -64 to 64 and scales [O] whose product is nearly kernel [I, O]:
    symmetric, a scale for each output.
    """
    scales = np.maximum(np.abs(kernel).max(axis=0), 1e-12) / LARGEST_WEIGHT
    return np.rint(kernel / scales).astype(np.int8), scales.astype(np.float32)


def linear(g: Graph, x: Operand, weights: Weights, scale: float = 1.0) -> str:
    """x [N, I] through a `Projection`'s parameters, kernel [I, parts, O] → [N, parts · O]."""
    kernel = np.asarray(weights["kernel"], np.float32)
    bias = np.asarray(weights["bias"], np.float32)
    return product(g, x, scale * kernel.reshape(len(kernel), -1), scale * bias.reshape(-1))


def normalised(g: Graph, x: str, weights: Weights) -> str:
    """The layer normalisation of x [N, D]."""
    return g.op(
        "LayerNormalization",
        x,
        g.constant(weights["scale"], np.float32),
        g.constant(weights["bias"], np.float32),
        axis=-1,
        epsilon=EPSILON,
    )


class KeysValues(NamedTuple):
    """Keys and values of attention, [1, B, P, S, W] each."""

    key: str
    value: str


class Rows(NamedTuple):
    """Layout of rows [N, …] as B sentences with T positions each."""

    length: str  # int64 [1]: T

    def split(self, g: Graph, x: str, *axes: int) -> str:
        """x [N, …] → [B, T, axes]."""
        root = g.root
        shape = root.shared("Concat", root.ints(-1), self.length, root.ints(*axes), axis=0)
        return g.op("Reshape", x, shape)


def heads_of(g: Graph, x: str, rows: Rows, parts: int, heads: int, width: int) -> tuple[str, ...]:
    """x [N, parts · Q] → `parts` arrays [1, B, P, T, W]."""
    split = rows.split(g, x, parts, heads, width // heads)
    turned = g.op("Transpose", split, perm=[2, 0, 3, 1, 4])
    if parts == 1:
        return (turned,)
    return g.ops("Split", turned, outputs=parts, axis=0, num_outputs=parts)


def transposed_keys(g: Graph, key: str) -> str:
    """[1, B, P, S, W] → [1, B, P, W, S]."""
    return g.op("Transpose", key, perm=[0, 1, 2, 4, 3])


class Attended(NamedTuple):
    """The result of attention."""

    mixed: str  # [N, Q]
    weights: str  # [1, B, P, T, S]


def attention(
    g: Graph, query: str, keys_transposed: str, value: str, mask: str | None, width: int
) -> Attended:
    """Softmax attention of scaled queries [1,B,P,T,W] over keys [1,B,P,W,S] and values [1,B,P,S,W];
    mask: added to the scores.
    """
    scores = g.op("MatMul", query, keys_transposed)
    if mask is not None:
        scores = g.op("Add", scores, mask)
    weights = g.op("Softmax", scores, axis=-1)
    mixed = g.op("Transpose", g.op("MatMul", weights, value), perm=[0, 1, 3, 2, 4])
    return Attended(g.op("Reshape", mixed, g.ints(-1, width)), weights)


class Table(NamedTuple):
    """The embeddings of the vocabulary, [V, D]; rows of zeros fill the last group of words."""

    rows: np.ndarray  # float32 or int8
    scales: np.ndarray | None  # float32 [V], of int8 rows
    bias: np.ndarray  # float32 [V], of the logits: no probability for rows beyond the vocabulary


# The best words are in the groups with the largest maxima, so only these are searched.
WORD_GROUP = 32
_FEW_WORDS = 2048  # no groups below


def is_grouped(vocab_size: int) -> bool:
    """Whether the best words are searched in groups."""
    return vocab_size >= _FEW_WORDS


def table(embeddings: Float[np.ndarray, "V D"], settings: Settings) -> Table:
    """embeddings [V, D] for `embedded` and `projected`."""
    filling = -len(embeddings) % WORD_GROUP if is_grouped(len(embeddings)) else 0
    rows = np.pad(np.asarray(embeddings, np.float32), ((0, filling), (0, 0)))
    bias = np.zeros(len(rows), np.float32)
    bias[len(embeddings) :] = MASKED
    if settings.precision != INT8:
        return Table(rows, None, bias)
    integers, scales = quantised(rows.T)
    return Table(np.ascontiguousarray(integers.T), scales, bias)


def embedded(g: Graph, table: Table, tokens: str, positions: str) -> str:
    """√D · embeddings of tokens [N] + positions [N or 1, D]."""
    rows = g.op("Gather", g.root.constant(table.rows), tokens)
    scale = g.number(table.rows.shape[1] ** 0.5)
    if table.scales is not None:
        rows = g.op("Cast", rows, to=1)
        scales = g.op("Gather", g.root.constant(table.scales), tokens)
        own = g.op("Unsqueeze", scales, g.ints(-1))
        scale = g.op("Mul", own, scale)
    return g.op("Add", g.op("Mul", rows, scale), positions)


def projected(g: Graph, x: str, table: Table, precision: str) -> str:
    """x [N, D] · tableᵀ → [N, V].

    The table is a constant of this very graph: ONNX Runtime packs no constant of a graph two levels
    up.
    """
    rows = g.constant(table.rows)
    if table.scales is None:
        bias = [g.constant(table.bias)] if table.bias.any() else []
        return g.op("Gemm", x, rows, *bias, transB=1)
    columns = g.op("Transpose", rows, perm=[1, 0])  # folded when the model is loaded
    scaled = _integer_product(g, operand(g, x, precision), columns, g.constant(table.scales))
    return g.op("Add", scaled, g.constant(table.bias))


class Gathered(NamedTuple):
    """The rows of a `Table` for some pieces, gathered once for all products with them."""

    weights: str  # float32 [C, D] or int8 [D, C]
    scales: str | None  # float32 [C], of int8 weights


def gathered(g: Graph, table: Table, pieces: str) -> Gathered:
    """The rows of pieces [C]."""
    rows = g.op("Gather", g.root.constant(table.rows), pieces)
    if table.scales is None:
        return Gathered(rows, None)
    scales = g.op("Gather", g.root.constant(table.scales), pieces)
    return Gathered(g.op("Transpose", rows, perm=[1, 0]), scales)


def projected_to(g: Graph, x: str, rows: Gathered, precision: str) -> str:
    """x [N, D] · gathered rowsᵀ → [N, C]."""
    if rows.scales is None:
        return g.op("Gemm", x, rows.weights, transB=1)
    return _integer_product(g, operand(g, x, precision), rows.weights, rows.scales)
