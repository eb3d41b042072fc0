"""Routers as ONNX operators: gates [N, E] of a layer's tokens, 0 for experts that a token does not
use. One file in `export/routers/` for each kind.

Axes: N tokens · K choices · E experts.
"""

import dataclasses
from collections.abc import Callable

from automoe_jax.errors import UserError
from automoe_jax.export.graph import Graph
from automoe_jax.routers import RouterConfig

WORD, POSITION, SENTENCE = "word", "position", "sentence"


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


def probabilities(g: Graph, layer: Layer) -> str:
    """float32 [N, E]: softmax of the logits of a router with parameters."""
    assert layer.logits is not None
    return g.op("Softmax", layer.logits, axis=-1)


def scattered(g: Graph, like: str, chosen: str, values: str) -> str:
    """values [N, K] in the columns chosen [N, K] of zeros as large as `like` [N, E]."""
    return g.op("ScatterElements", g.op("Sub", like, like), chosen, values, axis=1)


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
