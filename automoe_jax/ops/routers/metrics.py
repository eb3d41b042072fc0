"""Metrics of the load that a router puts on the experts.

Axes: N tokens · E experts · K choices per token.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32

from automoe_jax.arch import MAX_EXPERTS
from automoe_jax.ops.routers.routing import Routing


class RouterMetrics(NamedTuple):
    """Distribution of a layer's non-pad tokens over its experts; float32, all 0 for a layer that
    does not route.
    """

    routed: Float32[Array, ""]  # 1 if the layer has more than one active expert
    balance_loss: Float32[Array, ""]  # E · Σ f_e · P_e, 1 when even (Switch, section 2.2)
    z_loss: Float32[Array, ""]  # mean of (log Σ exp logits)²
    entropy: Float32[Array, ""]  # of the load f, divided by log E: 1 even, 0 collapsed
    dead: Float32[Array, ""]  # share of the active experts that got no token
    dropped: Float32[Array, ""]  # share of the choices beyond their expert's capacity
    choices: Float32[Array, "experts"]  # [MAX_EXPERTS] share of the tokens with 1, 2, … experts


def no_metrics() -> RouterMetrics:
    """The metrics of a layer that does not route."""
    sizes = {"choices": (MAX_EXPERTS,)}
    return RouterMetrics(
        **{name: jnp.zeros(sizes.get(name, ()), jnp.float32) for name in RouterMetrics._fields}
    )


def router_metrics(
    routing: Routing,
    active: Bool[Array, "E"],
    counted: Bool[Array, "N"],
    logits: Float32[Array, "N E"] | None = None,
) -> RouterMetrics:
    """Metrics over the tokens where counted [N] is true, for active [E] experts; without logits
    [N, E] the z-loss is 0.
    """
    weight = counted.astype(jnp.float32)
    tokens = jnp.maximum(weight.sum(), 1.0)
    share, load = _load(routing, weight, len(active))
    mean_probability = (routing.probabilities * weight[:, None]).sum(0) / tokens
    count = active.sum().astype(jnp.float32)
    routed = (count > 1).astype(jnp.float32)
    z_loss = jnp.zeros(()) if logits is None else _z_loss(logits, active, weight) / tokens
    return RouterMetrics(
        routed=routed,
        balance_loss=routed * count * jnp.sum(share * mean_probability),
        z_loss=routed * z_loss,
        entropy=routed * _entropy(share) / jnp.log(jnp.maximum(count, 2.0)),
        dead=routed * jnp.sum(active & (load == 0)) / count,
        dropped=jnp.zeros(()),
        choices=routed * _expert_counts(routing, weight, len(active)) / tokens,
    )


def _load(
    routing: Routing, weight: Float32[Array, "N"], experts: int
) -> tuple[Float32[Array, "E"], Float32[Array, "E"]]:
    """Share [E] of the choices, and number [E] of the choices, that each expert gets."""
    load = jnp.sum(jax.nn.one_hot(routing.chosen, experts) * weight[:, None, None], axis=(0, 1))
    choices = (routing.chosen < experts) * weight[:, None]
    return load / jnp.maximum(choices.sum(), 1.0), load


def _entropy(share: Float32[Array, "E"]) -> Float32[Array, ""]:
    """Entropy of the shares [E], in nats."""
    return -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.maximum(share, 1e-9)), 0.0))


def _z_loss(
    logits: Float32[Array, "N E"], active: Bool[Array, "E"], weight: Float32[Array, "N"]
) -> Float32[Array, ""]:
    """Sum of (log Σ exp logits)² over the tokens, each times its weight [N]."""
    log_z = jax.nn.logsumexp(jnp.where(active[None], logits, -jnp.inf), axis=-1)
    return jnp.sum(jnp.square(log_z) * weight)


def _expert_counts(
    routing: Routing, weight: Float32[Array, "N"], experts: int
) -> Float32[Array, "K"]:
    """Number [MAX_EXPERTS] of the tokens with 1, 2, … experts."""
    made = (routing.chosen < experts) * weight[:, None]
    number = made.sum(axis=1).astype(jnp.int32)
    counts = number[:, None] == jnp.arange(1, MAX_EXPERTS + 1)[None]
    return jnp.sum(counts * weight[:, None], axis=0)
