"""The experts of a layer as ONNX operators, of which only the chosen ones are computed.

Axes: N tokens · D embedding width · F hidden units of an expert · E experts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from automoe_jax.export.graph import Graph
from automoe_jax.export.parts import Operand, operand, product
from automoe_jax.export.settings import Settings, Weights


class Expert(NamedTuple):
    """relu(x · w_in + b_in) · w_out + b_out."""

    w_in: Float[np.ndarray, "D F"]
    b_in: Float[np.ndarray, "F"]
    w_out: Float[np.ndarray, "F D"]
    b_out: Float[np.ndarray, "D"]


def experts_of(weights: Weights, widths: Sequence[int]) -> list[Expert | None]:
    """The experts of a layer's parameters; None for an identity expert."""
    experts: list[Expert | None] = []
    row, computing = 0, 0
    for width in widths:
        if not width:
            experts.append(None)
            continue
        rows = slice(row, row + width)
        experts.append(
            Expert(
                np.asarray(weights["w_in"][rows], np.float32).T,
                np.asarray(weights["b_in"][rows], np.float32),
                np.asarray(weights["w_out"][rows], np.float32),
                np.asarray(weights["b_out"][computing], np.float32),
            )
        )
        row, computing = row + width, computing + 1
    return experts


def ffn(g: Graph, x: Operand, expert: Expert, precision: str) -> str:
    """One expert on x [..., D]."""
    hidden = g.op("Relu", product(g, x, expert.w_in, expert.b_in))
    return product(g, operand(g, hidden, precision), expert.w_out, expert.b_out)


def mixture(
    g: Graph, x: str, gates: str, experts: Sequence[Expert | None], settings: Settings
) -> str:
    """Σ_e gates[n, e] · expert_e(x[n]) for x [N, D] and gates [N, E].

    An expert without tokens costs nothing. The others are computed for their tokens.
    """
    used = g.op("Greater", g.op("ReduceMax", gates, g.ints(0), keepdims=0), g.number(0))
    parts = []
    for number, expert in enumerate(experts):

        def computed(body: Graph, number: int = number, expert: Expert | None = expert) -> str:
            gate = _column(body, gates, number)
            if expert is None:
                return body.op("Mul", x, gate)
            rows = body.op("NonZero", body.op("Squeeze", gate, body.ints(1)))
            rows = body.op("Transpose", rows, perm=[1, 0])  # [n, 1]
            own = operand(body, body.op("GatherND", x, rows), settings.precision)
            weighted = body.op(
                "Mul", ffn(body, own, expert, settings.precision), body.op("GatherND", gate, rows)
            )
            return body.op("ScatterND", body.op("Sub", x, x), rows, weighted)

        if expert is None:
            parts.append(computed(g))
            continue
        chosen = g.op("Gather", used, g.integer(number))
        parts.append(
            g.branch(chosen, computed, lambda body: body.constant(np.zeros((1, 1), np.float32)))
        )
    return g.op("Sum", *parts) if len(parts) > 1 else parts[0]


def _column(g: Graph, gates: str, number: int) -> str:
    """[N, 1] of gates [N, E]."""
    return g.op("Gather", gates, g.ints(number), axis=1)
