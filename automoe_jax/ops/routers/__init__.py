"""Routers on arrays: one file for each kind; its declaration (`automoe_jax.routers`) loads it."""

from automoe_jax.errors import UserError
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
from automoe_jax.routers import RouterConfig

__all__ = [
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


def functions_of(router: RouterConfig) -> RouterFunctions:
    """The functions of a router; raises `UserError` if its declaration has none."""
    load = router.declaration.functions
    if load is None:
        raise UserError(
            f"config.router.kind={router.kind!r} is declared without functions; give its"
            " RouterDeclaration the argument `functions`"
        )
    functions: RouterFunctions = load()
    return functions
