"""Experts for few rows, as in a decoding step: every expert is applied to every token, and the
experts that were not chosen have weight 0.

With few rows, loading the weights takes longer than the arithmetic, and most experts are chosen by
some token: two products over the whole table then cost less than sorting and a loop. Plain JAX, for
all platforms.

Axes: N tokens · K choices · D embedding width · U hidden units of all experts · E experts.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from automoe_jax.ops.grouped.sorting import MIN_BLOCK_ROWS
from automoe_jax.ops.grouped.table import ExpertRows, Experts
from automoe_jax.ops.routers.routing import Routing

FEW = 32  # most rows for which loading the weights dominates


def is_few(tokens: int, choices: int, experts: int) -> bool:
    """Whether the tokens are few enough that on average no expert fills more than its first block,
    but enough to use most experts.
    """
    return tokens <= FEW and experts <= tokens * choices <= MIN_BLOCK_ROWS * experts


def few_rows_ffn(
    x: Float[Array, "N D"], routing: Routing, experts: Experts, expert_rows: ExpertRows
) -> Float[Array, "N D"]:
    """`experts_ffn` without dropout; x [N, D] → [N, D]."""
    starts, widths = jnp.asarray(expert_rows.starts), jnp.asarray(expert_rows.widths)
    count = widths.shape[0]
    chosen = jax.nn.one_hot(routing.chosen, count, dtype=x.dtype)
    share = jnp.einsum("nk,nke->ne", routing.gates.astype(x.dtype), chosen)
    unit = jnp.arange(len(experts.w_in))[:, None]
    starts, ends = starts[None], (starts + jnp.maximum(widths, 0))[None]
    owner = (unit >= starts) & (unit < ends)
    hidden = jax.nn.relu(x @ experts.w_in.T + experts.b_in[None]) * (
        share @ owner.T.astype(x.dtype)
    )
    computed = hidden @ experts.w_out + jnp.where(widths[None] > 0, share, 0) @ experts.b_out
    return computed + jnp.where(widths[None] == 0, share, 0).sum(axis=1, keepdims=True) * x
