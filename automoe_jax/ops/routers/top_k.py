"""The K most probable experts of a learned gate (AutoMoE, arXiv 2210.07535, section 3).

With a capacity and jitter this is the router of Switch Transformer (arXiv 2101.03961).

Axes: N tokens · D embedding width · E experts · K choices per token.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray

from automoe_jax.ops.dropout import random_bits, split
from automoe_jax.ops.routers.routing import (
    Gate,
    RouterFunctions,
    RouterInputs,
    Routing,
    largest,
    linear_logits,
    made,
    masked_softmax,
)
from automoe_jax.routers import RouterConfig


def route_top_k(
    logits: Float32[Array, "N E"],
    active: Bool[Array, "E"],
    top_k: int | Int[Array, ""],
    max_top_k: int,
) -> Routing:
    """Softmax over the active experts, then the `top_k` largest, with their raw probability as
    gate.

    logits [N, E] float32, active [E] bool; `top_k` may be traced and is at most `max_top_k`. Ties
    go to the first expert.
    """
    probabilities = masked_softmax(logits, active)
    gates, chosen = largest(probabilities, min(max_top_k, logits.shape[-1]))
    return made(chosen, gates, probabilities, jnp.arange(chosen.shape[1]) < top_k)


def jittered(x: Float32[Array, "N D"], amount: float, key: PRNGKeyArray) -> Float32[Array, "N D"]:
    """x [N, D] float32, each number multiplied by a uniform draw from [1 − amount, 1 + amount]
    (Switch, section 2.3).
    """
    uniform = random_bits(key, x.shape).astype(jnp.float32) * 2.0**-32
    return x * (1 + amount * (2 * uniform - 1))


def jittered_logits(
    router: RouterConfig, x: Float[Array, "N D"], gate: Gate, rng: PRNGKeyArray | None
) -> Float32[Array, "N E"]:
    """Linear logits [N, E] of x [N, D], which is jittered in training by `router.jitter`."""
    x = x.astype(jnp.float32)
    if rng is not None and router.jitter:
        _, _, jitter_rng = split(rng, 3)  # the experts' dropout uses the first two
        x = jittered(x, router.jitter, jitter_rng)
    return linear_logits(router, x, gate, rng)


def gates_of_one(routing: Routing) -> Routing:
    """The routing with gates of exactly 1, or 0 where no choice is made; they have the gradient of
    p / stop_gradient(p).
    """
    gates = routing.gates
    chosen = gates > 0
    scale = jax.lax.stop_gradient(jnp.where(chosen, gates, 1.0))
    return routing._replace(gates=gates / scale)


def _route(inputs: RouterInputs) -> Routing:
    routing = route_top_k(inputs.scores(), inputs.active, inputs.top_k, inputs.max_top_k)
    return gates_of_one(routing) if inputs.router.gate == "one" else routing


FUNCTIONS = RouterFunctions(_route, jittered_logits)
