"""Experts drawn at random by hashing (THOR, arXiv 2110.04260, section 3).

Axes: B sentences · T positions · N tokens · E experts · K choices per token.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt32

from automoe_jax.ops.hashing import Word, hashed, hashed_positions, key_words
from automoe_jax.ops.routers.routing import (
    RouterFunctions,
    RouterInputs,
    Routing,
    TokenContext,
    made,
)
from automoe_jax.routers import RouterConfig


def route_at_random(
    identity: UInt32[Array, "N"],
    words: Sequence[Word],
    active: Bool[Array, "E"],
    top_k: int | Int[Array, ""],
    max_top_k: int,
) -> Routing:
    """`top_k` different active experts, drawn uniformly by hashing identity [N] with the words, and
    their mean.

    active [E] bool, the active experts first; `top_k` as in `route_top_k`. Nothing is learned.
    """
    count = active.sum().astype(jnp.uint32)
    choices = min(max_top_k, len(active))
    first = hashed(words, identity) % count
    chosen = (first[:, None] + jnp.arange(choices, dtype=jnp.uint32)[None]) % count
    kept = jnp.arange(choices) < jnp.minimum(top_k, active.sum())
    even = jnp.broadcast_to(active / count, (identity.shape[0], len(active))).astype(jnp.float32)
    return made(chosen.astype(jnp.int32), jnp.full(chosen.shape, 1.0) / kept.sum(), even, kept)


def route_to_all(tokens: Any, active: Bool[Array, "E"]) -> Routing:
    """Every active expert for each token, and their mean; active [E] bool.

    `tokens` is the number of tokens: a whole number, or a symbolic dimension of `jax.export`.
    """
    even = jnp.broadcast_to(active / active.sum(), (tokens, len(active))).astype(jnp.float32)
    chosen = jnp.broadcast_to(jnp.arange(len(active)), even.shape)
    return made(chosen, even, even, active)


def identity(router: RouterConfig, context: TokenContext) -> UInt32[Array, "B T"]:
    """Numbers uint32 [B, T]; tokens with equal numbers get the same draw in a layer.

    In training a draw holds for a pass (`batch`) or a token. In inference it depends on the
    sentence, and on the position unless the mode is `sentence`. A `fixed` draw depends on the word
    alone.
    """
    tokens, sentences = context.tokens, context.sentences
    if router.draw == "fixed":
        return tokens.astype(jnp.uint32)
    if context.training and router.draw == "batch":
        part = jnp.arange(len(tokens), dtype=jnp.uint32) // (len(tokens) // context.passes)
        return jnp.broadcast_to(part[:, None], tokens.shape)
    if context.training:
        return jnp.arange(tokens.size, dtype=jnp.uint32).reshape(tokens.shape)
    if router.inference == "sentence":
        return jnp.broadcast_to(sentences[:, None], tokens.shape)
    position = context.position
    if position is None:
        # Only real tokens count, as for the sinusoids, so that padding changes nothing.
        position = jnp.cumsum(tokens != context.pad_id, axis=1) - 1
    return jnp.broadcast_to(hashed_positions(sentences[:, None], position), tokens.shape)


def _route(inputs: RouterInputs) -> Routing:
    router, tokens, rng = inputs.router, inputs.tokens, inputs.rng
    drawn = router.draw != "fixed"
    if rng is None and drawn and router.inference == "mean":
        return route_to_all(tokens.counted.shape[0], inputs.active)
    words: list[Word] = [router.seed, inputs.layer]
    if rng is not None and drawn:
        words = [*key_words(rng), *words]
    assert tokens.identity is not None  # `identity` gives it for this kind
    return route_at_random(tokens.identity, words, inputs.active, inputs.top_k, inputs.max_top_k)


FUNCTIONS = RouterFunctions(_route, identity=identity)
