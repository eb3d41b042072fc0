"""Inputs and results that all routers share.

Axes: B sentences · T positions · N tokens · D embedding width · E experts · K choices per token.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray, UInt32

from automoe_jax.routers import RouterConfig


class Gate(NamedTuple):
    """Parameters of a linear gate, float32: rounding of a tie would send a token elsewhere."""

    kernel: Float32[Array, "D E"]
    bias: Float32[Array, "E"]


class Tokens(NamedTuple):
    """Facts about tokens other than their hidden states; the arrays have the tokens' own shape."""

    counted: Bool[Array, "..."]  # not padding
    # a random route sends tokens with equal numbers to the same expert
    identity: UInt32[Array, "..."] | None = None
    importance: Float32[Array, "..."] | None = None  # in [0, 1]

    def flat(self) -> "Tokens":
        """The same tokens as [N]."""
        return jax.tree.map(jnp.ravel, self)


class TokenContext(NamedTuple):
    """Origin of the tokens of a forward pass, from which a random route derives their identity."""

    tokens: Int[Array, "B T"]  # token ids
    sentences: UInt32[Array, "B"]  # a number for each source sentence
    pad_id: int
    passes: int  # equal parts of the batch that draw independently in training
    training: bool
    position: Int[Array, ""] | None = None  # of all tokens, from 0; None: one after another


class RouterInputs(NamedTuple):
    """Inputs of a router in one layer."""

    router: RouterConfig
    logits: Float32[Array, "N E"] | None  # None without a gate
    tokens: Tokens  # [N]
    active: Bool[Array, "E"]  # the active experts first
    top_k: int | Int[Array, ""]  # the gene K, maybe traced
    max_top_k: int
    layer: int  # number of the layer in the network
    rng: PRNGKeyArray | None  # a key in training, None in inference

    def scores(self) -> Float32[Array, "N E"]:
        """The logits [N, E]; zeros where no layer of the network has more than one expert."""
        if self.logits is None:
            return jnp.zeros((len(self.tokens.counted), len(self.active)))
        return self.logits


class Routing(NamedTuple):
    """The choices of every token; `chosen == E` marks a choice that is not made."""

    chosen: Int32[Array, "N K"]
    gates: Float32[Array, "N K"]  # 0 where not made
    probabilities: Float32[Array, "N E"]


def linear_logits(
    router: RouterConfig, x: Float[Array, "N D"], gate: Gate, rng: PRNGKeyArray | None
) -> Float32[Array, "N E"]:
    """x · kernel + bias in float32; x [N, D] → [N, E]."""
    return x.astype(jnp.float32) @ gate.kernel + gate.bias[None]


class RouterFunctions(NamedTuple):
    """Computations of a kind of router."""

    route: Callable[[RouterInputs], Routing]
    # logits of a router with a gate
    logits: Callable[[RouterConfig, jax.Array, Gate, jax.Array | None], jax.Array] = linear_logits
    # numbers uint32 [B, T] that identify the tokens, for routers that use `Tokens.identity`
    identity: Callable[[RouterConfig, TokenContext], jax.Array] | None = None


def masked_softmax(
    logits: Float32[Array, "N E"], active: Bool[Array, "E"]
) -> Float32[Array, "N E"]:
    """Softmax over the active experts; logits [N, E], active [E] → [N, E]."""
    return jax.nn.softmax(jnp.where(active[None], logits, -jnp.inf), axis=-1)


def largest(
    probabilities: Float32[Array, "N E"], count: int
) -> tuple[Float32[Array, "N K"], Int[Array, "N K"]]:
    """The `count` largest of each row and their columns; ties go to the first column."""
    if count == 1:
        chosen = jnp.argmax(probabilities, axis=-1, keepdims=True)
        return jnp.take_along_axis(probabilities, chosen, axis=-1), chosen
    values, chosen = jax.lax.top_k(probabilities, count)
    return values, chosen


def made(
    chosen: Int[Array, "N K"],
    gates: Float32[Array, "N K"],
    probabilities: Float32[Array, "N E"],
    kept: Bool[Array, "..."],
) -> Routing:
    """A routing of the choices chosen [N, K] where `kept`, broadcastable to [N, K], is true."""
    kept = jnp.broadcast_to(kept, chosen.shape)
    return Routing(
        jnp.where(kept, chosen, probabilities.shape[1]).astype(jnp.int32),
        jnp.where(kept, gates, 0.0),
        probabilities,
    )
