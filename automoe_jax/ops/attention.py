"""Attention whose number of heads may be traced.

The query width Q is fixed, so fewer heads are wider heads (SPEC 1.2). Under one trace the scores of the narrowest
heads are computed and those that belong to the same wide head added up, which is exact.

Axes: B sentences · T queries · S keys · Q = H · W query width · H heads · P parts (the narrowest heads).
"""

import jax
import jax.numpy as jnp

from automoe_jax.ops.dropout import keep_scale

MASKED = -1e9  # finite, so that a row without any key gives numbers; its exponential is exactly 0 beside any real score


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    allowed: jax.Array,
    *,
    heads: int | jax.Array,
    max_heads: int,
    dropout_rate: float = 0.0,
    rng: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention. query [B,T,Q], key and value [B,S,Q], allowed: bool, broadcastable to [B,1,T,S] → [B,T,Q].

    `heads` is a Python integer, or a traced one that divides `max_heads`. Scores and softmax are float32.
    """
    parts = heads if isinstance(heads, int) else max_heads
    query, key, value = (_split(x, parts) for x in (query, key, value))
    scores = jnp.einsum("btpw,bspw->bpts", query, key, preferred_element_type=jnp.float32)
    group = None if isinstance(heads, int) else jnp.arange(parts) // (parts // heads)
    if group is not None:
        same_head = (group[:, None] == group[None, :]).astype(jnp.float32)
        scores = jnp.einsum("po,bots->bpts", same_head, scores)
    scale = jnp.sqrt(jnp.asarray(heads, jnp.float32) / (parts * query.shape[-1]))
    weights = jax.nn.softmax(jnp.where(allowed, scores * scale, MASKED), axis=-1)
    if rng is not None and dropout_rate:
        keep = keep_scale(rng, dropout_rate, weights.shape)
        # The parts of one head drop the same weights, as the wide head they stand for would.
        weights = weights * (keep if group is None else keep[:, group * (parts // heads)])
    mixed = jnp.einsum("bpts,bspw->btpw", weights.astype(value.dtype), value)
    return mixed.reshape(*mixed.shape[:2], -1)


def _split(x: jax.Array, parts: int) -> jax.Array:
    """[B,T,Q] → [B,T,P,W]."""
    return x.reshape(*x.shape[:2], parts, -1)
