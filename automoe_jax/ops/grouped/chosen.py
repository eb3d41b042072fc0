"""Experts of a decoding step of one sentence on CPU: each has matrices of its own, and one that no
token chose is not computed.

Axes: N tokens · K choices · D embedding width · U hidden units · E experts.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from automoe_jax.ops.columns import ROWS, by_columns
from automoe_jax.ops.grouped import dense_ffn
from automoe_jax.ops.grouped.backends import use_backend
from automoe_jax.ops.grouped.table import Experts
from automoe_jax.ops.routers.routing import Routing

# of each expert, U its own; None for an identity expert
Apart = tuple[Experts | None, ...]


MOST_USED = 0.8  # share of a layer's experts, up to which skipping the others saves time


def pays(tokens: int, choices: int | float, experts: int) -> bool:
    """Whether so few tokens, with `choices` experts each, leave enough experts unused, and this
    program can skip them: one without a mesh or a chosen backend, on a CPU. An accelerator would
    wait for the decision.
    """
    used = 1 - (1 - min(choices / experts, 1)) ** tokens  # expected share with even routes
    here = jax.default_backend() == "cpu" and jax.sharding.get_abstract_mesh().empty
    return tokens <= ROWS and used <= MOST_USED and here and not use_backend.value


def apart(experts: Experts, widths: Sequence[int], tokens: int) -> Apart:
    """The matrices of each expert of a table, copied once for the products of `tokens` rows in many
    steps: as much memory again as the table, whose b_out [E', D] is that of the E' experts with a
    width above 0.
    """
    each: list[Experts | None] = []
    start = 0
    for width in widths:
        if not width:
            each.append(None)
            continue
        rows, number = slice(start, start + width), sum(one is not None for one in each)
        w_in, b_in, w_out, b_out = experts
        w_in, w_out = by_columns(w_in[rows], tokens), jax.lax.optimization_barrier(w_out[rows])
        each.append(Experts(w_in, b_in[rows], w_out, b_out[number, None]))
        start += width
    return tuple(each)


def chosen_ffn(x: Float[Array, "N D"], routing: Routing, each: Apart) -> Float[Array, "N D"]:
    """Σ_k gates[n,k] · expert_{chosen[n,k]}(x[n]) for x [N, D] → [N, D], as `experts_ffn` without
    dropout; a chosen expert computes all tokens.
    """
    choice = jax.nn.one_hot(routing.chosen, len(each), dtype=x.dtype)
    share = jnp.einsum("nk,nke->ne", routing.gates.astype(x.dtype), choice)
    y = jnp.zeros_like(x)
    for number, expert in enumerate(each):
        used, own = (routing.chosen == number).any(), share[:, number, None]
        y = _plus(y, x, expert, used, own)
    return y


def _plus(
    y: Float[Array, "N D"],
    x: Float[Array, "N D"],
    expert: Experts | None,
    used: jax.Array,
    share: Float[Array, "N 1"],
) -> Float[Array, "N D"]:
    """y + share · expert(x), or y where no token uses the expert."""
    if expert is None:
        return y + share * x
    return jax.lax.cond(used, lambda y: y + share * dense_ffn(x, expert), lambda y: y, y)
