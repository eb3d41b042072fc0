"""As many experts as a token's importance demands (DA-MoE, arXiv 2409.06669).

Axes: N tokens · E experts.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int

from automoe_jax.ops.constants import ROUNDING
from automoe_jax.ops.routers.routing import (
    RouterFunctions,
    RouterInputs,
    Routing,
    largest,
    made,
    masked_softmax,
)


def route_by_importance(
    logits: Float32[Array, "N E"],
    active: Bool[Array, "E"],
    importance: Float32[Array, "N"],
    counted: Bool[Array, "N"],
    *,
    renormalise: bool = True,
) -> Routing:
    """The ⌈importance · E⌉ most probable of the E active experts, at least one.

    logits [N, E] float32, active [E] bool, importance [N] in [0, 1]. A token whose counted [N] is
    false gets no expert. Gates are divided by their sum, or raw.
    """
    probabilities = masked_softmax(logits, active)
    gates, chosen = largest(probabilities, logits.shape[-1])
    rank = jnp.arange(chosen.shape[1])[None]
    wanted = rank < expert_counts(importance, active.sum())[:, None]
    routing = made(chosen, gates, probabilities, wanted & counted[:, None])
    if not renormalise:
        return routing
    total = routing.gates.sum(axis=1, keepdims=True)
    return routing._replace(gates=routing.gates / jnp.where(total > 0, total, 1.0))


def expert_counts(
    importance: Float32[Array, "N"], experts: int | Int[Array, ""]
) -> Float32[Array, "N"]:
    """⌈importance · E⌉ as float32, between 1 and E; importance [N] → [N]."""
    return jnp.clip(jnp.ceil(importance * experts - ROUNDING), 1, experts)


def _route(inputs: RouterInputs) -> Routing:
    importance = inputs.tokens.importance
    assert importance is not None  # the layer measures it for this kind
    return route_by_importance(
        inputs.scores(),
        inputs.active,
        importance,
        inputs.tokens.counted,
        renormalise=inputs.router.renormalise,
    )


FUNCTIONS = RouterFunctions(_route)
