"""Routers: which experts a token goes to, how much of each it takes, and how even the load is.

Axes: N tokens · E experts · K choices per token.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Routing(NamedTuple):
    """The choice of every token; `chosen == E` marks a choice that is not made."""

    chosen: jax.Array  # [N, K] int32
    gates: jax.Array  # [N, K] float32, 0 where not made
    probabilities: jax.Array  # [N, E] float32


class RouterMetrics(NamedTuple):
    """How a layer's router spreads the non-pad tokens; all float32 scalars, all 0 for a layer that does not route."""

    routed: jax.Array  # 1 if the layer has more than one active expert
    balance_loss: jax.Array  # E · Σ f_e · P_e, 1 when even (Switch; SPEC 1.3)
    entropy: jax.Array  # of the load f, divided by log E: 1 even, 0 collapsed
    dead: jax.Array  # share of the active experts that got no token


def no_metrics() -> RouterMetrics:
    """The metrics of a layer that does not route."""
    return RouterMetrics(*(jnp.zeros((), jnp.float32) for _ in RouterMetrics._fields))


def route_top_k(logits: jax.Array, active: jax.Array, top_k: int | jax.Array, max_top_k: int) -> Routing:
    """Softmax over the active experts, then the `top_k` largest with their raw probability as gate (SPEC 1.2.5).

    logits [N, E] float32, active [E] bool; `top_k` may be traced, at most `max_top_k`. Ties go to the first expert.
    """
    experts = logits.shape[-1]
    probabilities = jax.nn.softmax(jnp.where(active, logits, -jnp.inf), axis=-1)
    choices = min(max_top_k, experts)
    if choices == 1:
        chosen = jnp.argmax(probabilities, axis=-1, keepdims=True)
        gates = jnp.take_along_axis(probabilities, chosen, axis=-1)
    else:
        gates, chosen = jax.lax.top_k(probabilities, choices)
    made = (jnp.arange(choices) < top_k)[None, :]
    return Routing(jnp.where(made, chosen, experts).astype(jnp.int32), jnp.where(made, gates, 0.0), probabilities)


def router_metrics(routing: Routing, active: jax.Array, counted: jax.Array) -> RouterMetrics:
    """Metrics over the tokens where counted [N] is true, for active [E] experts."""
    experts = active.shape[0]
    weight = counted.astype(jnp.float32)
    made = (routing.chosen < experts) * weight[:, None]
    load = jnp.sum(jax.nn.one_hot(routing.chosen, experts) * weight[:, None, None], axis=(0, 1))
    share = load / jnp.maximum(made.sum(), 1.0)
    mean_probability = (routing.probabilities * weight[:, None]).sum(0) / jnp.maximum(weight.sum(), 1.0)
    count = active.sum().astype(jnp.float32)
    routed = (count > 1).astype(jnp.float32)
    entropy = -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.maximum(share, 1e-9)), 0.0))
    return RouterMetrics(
        routed=routed,
        balance_loss=routed * count * jnp.sum(share * mean_probability),
        entropy=routed * entropy / jnp.log(jnp.maximum(count, 2.0)),
        dead=routed * jnp.sum(active & (load == 0)) / count,
    )
