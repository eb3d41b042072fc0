"""Routers: which experts a token goes to, how much of each it takes, and how even the load is.

Axes: N tokens · E experts · K choices per token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from automoe_jax.arch import MAX_EXPERTS
from automoe_jax.ops.dropout import random_bits
from automoe_jax.ops.hashing import Word, hashed

# importances that differ only by rounding, as with and without a cache, give the same number of
# experts
_ROUNDING = 1e-5


class Tokens(NamedTuple):
    """What a router may know of tokens beside their hidden states; the arrays have the tokens' own
    shape.
    """

    counted: jax.Array  # bool: not padding
    # uint32: a random route sends tokens with equal numbers to the same expert
    identity: jax.Array | None = None
    importance: jax.Array | None = None  # float32 in [0, 1]

    def flat(self) -> "Tokens":
        """The same tokens as [N]."""
        return jax.tree.map(jnp.ravel, self)


class Routing(NamedTuple):
    """The choice of every token; `chosen == E` marks a choice that is not made."""

    chosen: jax.Array  # [N, K] int32
    gates: jax.Array  # [N, K] float32, 0 where not made
    probabilities: jax.Array  # [N, E] float32


class RouterMetrics(NamedTuple):
    """How a layer's router spreads the non-pad tokens; float32, all 0 for a layer that does not
    route.
    """

    routed: jax.Array  # 1 if the layer has more than one active expert
    balance_loss: jax.Array  # E · Σ f_e · P_e, 1 when even (Switch; SPEC 1.3)
    z_loss: jax.Array  # mean of (log Σ exp logits)²
    entropy: jax.Array  # of the load f, divided by log E: 1 even, 0 collapsed
    dead: jax.Array  # share of the active experts that got no token
    dropped: jax.Array  # share of the choices that found no room in their expert
    choices: jax.Array  # [MAX_EXPERTS] share of the tokens with 1, 2, … experts


def no_metrics() -> RouterMetrics:
    """The metrics of a layer that does not route."""
    sizes = {"choices": (MAX_EXPERTS,)}
    return RouterMetrics(
        **{name: jnp.zeros(sizes.get(name, ()), jnp.float32) for name in RouterMetrics._fields}
    )


def jittered(x: jax.Array, amount: float, key: jax.Array) -> jax.Array:
    """x [N, D] float32, each number times one drawn evenly from [1 − amount, 1 + amount], before a
    router (Switch, on exploration).
    """
    even = random_bits(key, x.shape).astype(jnp.float32) * 2.0**-32
    return x * (1 + amount * (2 * even - 1))


def route_top_k(
    logits: jax.Array, active: jax.Array, top_k: int | jax.Array, max_top_k: int
) -> Routing:
    """Softmax over the active experts, then the `top_k` largest with their raw probability as gate
    (SPEC 1.2.5).

    logits [N, E] float32, active [E] bool; `top_k` may be traced, at most `max_top_k`. Ties go to
    the first expert.
    """
    probabilities = jax.nn.softmax(jnp.where(active, logits, -jnp.inf), axis=-1)
    gates, chosen = _largest(probabilities, min(max_top_k, logits.shape[-1]))
    return _made(chosen, gates, probabilities, jnp.arange(chosen.shape[1]) < top_k)


def route_by_importance(
    logits: jax.Array,
    active: jax.Array,
    importance: jax.Array,
    counted: jax.Array,
    *,
    renormalise: bool = True,
) -> Routing:
    """As many experts as a token deserves: the ⌈importance · E⌉ most probable of the E active ones
    (DA-MoE; SPEC 3).

    logits [N, E] float32, active [E] bool, importance [N] in [0, 1]; at least one expert, and none
    where counted [N] is false. Gates are divided by their sum, or raw.
    """
    probabilities = jax.nn.softmax(jnp.where(active, logits, -jnp.inf), axis=-1)
    gates, chosen = _largest(probabilities, logits.shape[-1])
    made = (jnp.arange(chosen.shape[1]) < deserved(importance, active.sum())[:, None]) & counted[
        :, None
    ]
    routing = _made(chosen, gates, probabilities, made)
    if not renormalise:
        return routing
    total = routing.gates.sum(axis=1, keepdims=True)
    return routing._replace(gates=routing.gates / jnp.where(total > 0, total, 1.0))


def deserved(importance: jax.Array, experts: int | jax.Array) -> jax.Array:
    """⌈importance · E⌉ experts, float32, between 1 and E."""
    return jnp.clip(jnp.ceil(importance * experts - _ROUNDING), 1, experts)


def route_at_random(
    identity: jax.Array,
    words: Sequence[Word],
    active: jax.Array,
    top_k: int | jax.Array,
    max_top_k: int,
) -> Routing:
    """`top_k` different active experts, drawn evenly by hashing identity [N] with the words, and
    their mean (THOR; SPEC 2).

    active [E] bool, the active experts first. `top_k` as in `route_top_k`. Nothing is learned and
    nothing weighed.
    """
    count = active.sum().astype(jnp.uint32)
    choices = min(max_top_k, len(active))
    first = hashed(words, identity) % count
    chosen = (first[:, None] + jnp.arange(choices, dtype=jnp.uint32)) % count
    made = jnp.arange(choices) < jnp.minimum(top_k, active.sum())
    even = jnp.broadcast_to(active / count, (len(identity), len(active))).astype(jnp.float32)
    return _made(chosen.astype(jnp.int32), jnp.full(chosen.shape, 1.0) / made.sum(), even, made)


def route_to_all(tokens: int, active: jax.Array) -> Routing:
    """Every active expert, and their mean; active [E] bool."""
    even = jnp.broadcast_to(active / active.sum(), (tokens, len(active))).astype(jnp.float32)
    return _made(
        jnp.broadcast_to(jnp.arange(len(active)), even.shape),
        even,
        even,
        jnp.broadcast_to(active, even.shape),
    )


def within_capacity(chosen: jax.Array, experts: int, capacity: int) -> jax.Array:
    """[N, K] the place 0 … capacity − 1 of each choice in its expert's queue, in the order of the
    tokens; −1 beyond it.

    chosen [N, K] int32, `experts` where a choice is not made (Switch; SPEC 4).
    """
    ahead = jnp.cumsum(jax.nn.one_hot(chosen.reshape(-1), experts, dtype=jnp.int32), axis=0)
    place = (
        jnp.take_along_axis(
            jnp.pad(ahead, ((0, 0), (0, 1))), chosen.reshape(-1, 1), axis=1
        ).reshape(chosen.shape)
        - 1
    )
    return jnp.where(place < capacity, place, -1)


def router_metrics(
    routing: Routing, active: jax.Array, counted: jax.Array, logits: jax.Array | None = None
) -> RouterMetrics:
    """Metrics over the tokens where counted [N] is true, for active [E] experts; without logits
    there is no z-loss.
    """
    experts = active.shape[0]
    weight = counted.astype(jnp.float32)
    tokens = jnp.maximum(weight.sum(), 1.0)
    made = (routing.chosen < experts) * weight[:, None]
    load = jnp.sum(jax.nn.one_hot(routing.chosen, experts) * weight[:, None, None], axis=(0, 1))
    share = load / jnp.maximum(made.sum(), 1.0)
    mean_probability = (routing.probabilities * weight[:, None]).sum(0) / tokens
    count = active.sum().astype(jnp.float32)
    routed = (count > 1).astype(jnp.float32)
    entropy = -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.maximum(share, 1e-9)), 0.0))
    z_loss = jnp.zeros(())
    if logits is not None:
        log_z = jax.nn.logsumexp(jnp.where(active, logits, -jnp.inf), axis=-1)
        z_loss = jnp.sum(jnp.square(log_z) * weight) / tokens
    number = made.sum(axis=1).astype(jnp.int32)
    return RouterMetrics(
        routed=routed,
        balance_loss=routed * count * jnp.sum(share * mean_probability),
        z_loss=routed * z_loss,
        entropy=routed * entropy / jnp.log(jnp.maximum(count, 2.0)),
        dead=routed * jnp.sum(active & (load == 0)) / count,
        dropped=jnp.zeros(()),
        choices=routed
        * jnp.sum((number[:, None] == jnp.arange(1, MAX_EXPERTS + 1)) * weight[:, None], axis=0)
        / tokens,
    )


def _largest(probabilities: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The `count` largest of each row and where they stand."""
    if count == 1:
        chosen = jnp.argmax(probabilities, axis=-1, keepdims=True)
        return jnp.take_along_axis(probabilities, chosen, axis=-1), chosen
    return jax.lax.top_k(probabilities, count)


def _made(
    chosen: jax.Array, gates: jax.Array, probabilities: jax.Array, made: jax.Array
) -> Routing:
    """A routing with the choices [N, K] that are not made left out."""
    made = jnp.broadcast_to(made, chosen.shape)
    return Routing(
        jnp.where(made, chosen, probabilities.shape[1]).astype(jnp.int32),
        jnp.where(made, gates, 0.0),
        probabilities,
    )
