"""Attention with a number of heads that may be traced.

The query width Q is fixed, so fewer heads are wider heads (docs/systems/automoe.md). Under one
trace, scores of the narrowest heads are computed and summed over the parts of one wide head, which
is exact.

Axes: B sentences · T queries · S keys · Q = H · W query width · H heads · P parts (the narrowest
heads).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray

from automoe_jax.ops.constants import MASKED
from automoe_jax.ops.dropout import keep_scale

# attention that a token receives as a key, or gives as a query; `relative_` to the largest of the
# sentence
RELATIVE = "relative_"
RECEIVED, GIVEN = "received", "given"


class Attended(NamedTuple):
    """The result of attention."""

    mixed: Float[Array, "B T Q"]
    importance: Float32[Array, "B _"] | None  # [B, T or S], if requested


def attention(
    query: Float[Array, "B T Q"],
    key: Float[Array, "B P S W"],
    value: Float[Array, "B P S W"],
    allowed: Bool[Array, "#B #P #T S"],
    *,
    heads: int | Int[Array, ""] | None = None,
    dropout_rate: float = 0.0,
    rng: PRNGKeyArray | None = None,
    importance: str | None = None,
    counted: Bool[Array, "B T"] | None = None,
) -> Attended:
    """Softmax attention. query [B,T,Q], key and value [B,P,S,W], allowed: bool, broadcastable to
    [B,1,T,S] → [B,T,Q].

    `heads` is a number, maybe traced, that divides P, or None for P. Scores and softmax are
    float32. `importance`, one of `routers.IMPORTANCES`, requests the importance of each token
    (`token_importance`).
    """
    parts = key.shape[1]
    query = split_heads(query, parts)
    scores = jnp.einsum("bptw,bpsw->bpts", query, key, preferred_element_type=jnp.float32)
    count = parts if heads is None else heads
    per_head = parts // count
    group = None if heads is None else jnp.arange(parts) // per_head
    if group is not None:
        same_head = (group[:, None] == group[None, :]).astype(jnp.float32)
        scores = jnp.einsum("po,bots->bpts", same_head, scores)
    scale = jnp.sqrt(jnp.asarray(count, jnp.float32) / (parts * query.shape[-1]))
    weights = jax.nn.softmax(jnp.where(allowed, scores * scale, MASKED), axis=-1)
    important = None if importance is None else token_importance(weights, importance, counted)
    if rng is not None and dropout_rate:
        keep = keep_scale(rng, dropout_rate, weights.shape)
        if group is not None:  # the parts of one wide head drop the same weights
            keep = keep[:, group * per_head]
        weights = weights * keep
    mixed = jnp.moveaxis(jnp.einsum("bpts,bpsw->bptw", weights.astype(value.dtype), value), 1, 2)
    return Attended(mixed.reshape(*mixed.shape[:2], -1), important)


def split_heads(x: Float[Array, "B S Q"], parts: int) -> Float[Array, "B P S W"]:
    """[B,S,Q] → [B,P,S,W]: each part contiguous, as the products of attention read them."""
    return jnp.moveaxis(x.reshape(*x.shape[:2], parts, -1), 2, 1)


def token_importance(
    weights: Float32[Array, "B P T S"], kind: str, counted: Bool[Array, "B T"] | None = None
) -> Float32[Array, "B _"]:
    """Largest of the weights [B,P,T,S] that a token gives to a key, or receives from a query where
    counted [B,T] is true; mean over heads (DA-MoE, router).

    With `relative_` before the kind it is divided by the largest of the counted tokens of the
    sentence. The parts of one head have the same weights, so the mean over parts is that over
    heads. It carries no gradient.
    """
    weights = jax.lax.stop_gradient(weights)
    if kind.removeprefix(RELATIVE) == GIVEN:
        importance = weights.max(axis=-1).mean(axis=1)
    else:
        if counted is not None:
            weights = jnp.where(counted[:, None, :, None], weights, 0.0)
        importance = weights.max(axis=-2).mean(axis=1)
    if not kind.startswith(RELATIVE):
        return importance
    own = importance if counted is None else jnp.where(counted, importance, 0.0)
    largest = own.max(axis=-1, keepdims=True)
    return jnp.minimum(importance / jnp.where(largest > 0, largest, 1.0), 1.0)
