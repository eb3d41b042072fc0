"""Experts drawn at random by hashing (THOR, arXiv 2110.04260, section 3)."""

import numpy as np

from automoe_jax.export.graph import Graph
from automoe_jax.export.routing import POSITION, SENTENCE, WORD, Layer, Router
from automoe_jax.routers import RouterConfig


def _gates(g: Graph, layer: Layer, router: RouterConfig) -> str:
    if layer.first is None:  # the mean of all
        even = g.constant(np.full((1, layer.experts), 1 / layer.experts), np.float32)
        return g.op("Expand", even, g.op("Concat", layer.tokens, g.ints(1), axis=0))
    first = np.arange(layer.experts)
    table = np.zeros((layer.experts, layer.experts), np.float32)
    for step in range(layer.top_k):
        table[first, (first + step) % layer.experts] = 1 / layer.top_k
    return g.op("Gather", g.constant(table), layer.first)


def _draw(router: RouterConfig) -> str | None:
    """Dependence of a random route in inference; None for the mean of all experts."""
    if router.draw == "fixed":
        return WORD
    return {"token": POSITION, "sentence": SENTENCE, "mean": None}[router.inference]


GRAPH = Router(_gates, _draw)
