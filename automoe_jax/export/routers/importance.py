"""As many experts as the importance of a token demands (DA-MoE, arXiv 2409.06669)."""

import numpy as np

from automoe_jax.export.graph import Graph
from automoe_jax.export.routing import Layer, Router, probabilities, scattered
from automoe_jax.ops.constants import ROUNDING
from automoe_jax.routers import RouterConfig


def _gates(g: Graph, layer: Layer, router: RouterConfig) -> str:
    assert layer.importance is not None
    shares = probabilities(g, layer)
    values, chosen = g.ops("TopK", shares, g.ints(layer.experts), outputs=2)
    wanted = g.op("Mul", layer.importance, g.number(layer.experts))
    wanted = g.op("Ceil", g.op("Sub", wanted, g.number(ROUNDING)))
    wanted = g.op("Clip", wanted, g.number(1), g.number(layer.experts))
    ranks = g.constant(np.arange(layer.experts), np.float32)
    made = g.op("Cast", g.op("Less", ranks, g.op("Unsqueeze", wanted, g.ints(1))), to=1)
    kept = g.op("Mul", values, made)
    if router.renormalise:
        kept = g.op("Div", kept, g.op("ReduceSum", kept, g.ints(1)))
    return scattered(g, shares, chosen, kept)


GRAPH = Router(_gates)
