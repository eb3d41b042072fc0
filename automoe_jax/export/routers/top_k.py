"""The most probable experts (AutoMoE, section 3)."""

from automoe_jax.export.graph import Graph
from automoe_jax.export.routing import Layer, Router, probabilities, scattered
from automoe_jax.routers import RouterConfig


def _gates(g: Graph, layer: Layer, router: RouterConfig) -> str:
    shares = probabilities(g, layer)
    values, chosen = g.ops("TopK", shares, g.ints(layer.top_k), outputs=2)
    if router.gate == "one":
        values = g.op("Cast", g.op("Greater", values, g.number(0)), to=1)
    return scattered(g, shares, chosen, values)


GRAPH = Router(_gates)
