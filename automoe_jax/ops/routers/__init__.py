"""Routers on arrays: one file for each kind, and the table that finds them by name.

A router from outside the package registers its functions in the table under the name of its
declaration (`automoe_jax.routers`).
"""

from automoe_jax.ops.routers import importance, random, top_k
from automoe_jax.ops.routers.metrics import RouterMetrics, no_metrics, router_metrics
from automoe_jax.ops.routers.routing import (
    Gate,
    RouterFunctions,
    RouterInputs,
    Routing,
    TokenContext,
    Tokens,
    linear_logits,
    made,
)
from automoe_jax.registry import Registry
from automoe_jax.routers import RouterConfig

__all__ = [
    "FUNCTIONS",
    "Gate",
    "RouterFunctions",
    "RouterInputs",
    "RouterMetrics",
    "Routing",
    "TokenContext",
    "Tokens",
    "functions_of",
    "linear_logits",
    "made",
    "no_metrics",
    "router_metrics",
]

FUNCTIONS: Registry[RouterFunctions] = Registry(
    "config.router.kind",
    {"topk": top_k.FUNCTIONS, "importance": importance.FUNCTIONS, "random": random.FUNCTIONS},
    "; register its functions in automoe_jax.ops.routers.FUNCTIONS in addition to its declaration",
)


def functions_of(router: RouterConfig) -> RouterFunctions:
    """The functions of a router; raises `UserError` if none are registered for its kind."""
    return FUNCTIONS.find(router.kind)
