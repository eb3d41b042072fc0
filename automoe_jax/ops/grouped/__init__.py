"""Dropless feed-forward experts of different widths whose cost is Σ tokens · width.

The hidden units of a layer's experts are the rows of one table: expert e owns `widths[e]` rows,
starting at `starts[e]`. Tokens are sorted by expert into blocks of rows; only existing blocks are
computed, each at its expert's width. The widths are traced, so one compilation serves every
architecture, and the cost of a sub-network is that of its computations.

`experts_ffn` sorts, gathers and applies gates, identity experts and the dropout of outputs for all
platforms. A backend processes the sorted rows: loops with traced trip counts on CPU, kernels
elsewhere, each with its own gradient. A few rows are not sorted (`few_rows`).

Axes: N tokens · K choices · D embedding width · U hidden units of all experts · E experts · P
padded rows of the sorted tokens · R rows of a block.
"""

import functools

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from automoe_jax.ops.dropout import dropout as drop
from automoe_jax.ops.dropout import split
from automoe_jax.ops.grouped.backends import choose, named, use_backend
from automoe_jax.ops.grouped.few_rows import few_rows_ffn, is_few
from automoe_jax.ops.grouped.sorting import (
    BlockLayout,
    block_rows,
    by_width,
    gather_rows,
    layout,
    no_gradient,
)
from automoe_jax.ops.grouped.table import (
    ExpertDropout,
    ExpertRows,
    Experts,
    HiddenDropout,
    TableShape,
    width_choices,
)
from automoe_jax.ops.routers.routing import Routing

__all__ = [
    "Experts",
    "BlockLayout",
    "ExpertDropout",
    "ExpertRows",
    "TableShape",
    "block_rows",
    "dense_ffn",
    "experts_ffn",
    "gather_rows",
    "layout",
    "use_backend",
    "width_choices",
]


def experts_ffn(
    x: Float[Array, "N D"],
    routing: Routing,
    experts: Experts,
    expert_rows: ExpertRows,
    ffn_dims: tuple[int, ...],
    dropout: ExpertDropout | None = None,
    *,
    backend: str | None = None,
) -> Float[Array, "N D"]:
    """Σ_k gates[n,k] · expert_{chosen[n,k]}(x[n]) for x [N, D] → [N, D].

    A choice of E, one past the last expert, adds nothing. An expert of width 0 is the identity: it
    returns x, without dropout (docs/systems/automoe.md). `ffn_dims` are the possible widths of an
    expert (`width_choices`). `backend` is a name in `backends.BACKENDS`; by default the platform's,
    or `few_rows` for few rows without dropout and for rows of an unknown number, as in an export.
    """
    tokens, choices = routing.chosen.shape
    if (
        dropout is None
        and not (backend or use_backend.value)
        and (
            jax.export.is_symbolic_dim(tokens)  # blocks have a known number
            or is_few(tokens, choices, len(expert_rows.widths))
        )
    ):
        return few_rows_ffn(x, routing, experts, expert_rows)
    widths = jnp.asarray(expert_rows.widths)
    expert_rows = ExpertRows(jnp.asarray(expert_rows.starts), widths)
    backend = choose(backend)
    order = by_width(widths) if named(backend).widest_first else None
    blocks = layout(routing.chosen, widths, block_rows(tokens * choices, widths.shape[0]), order)
    row_token = jnp.where(blocks.row_pair >= 0, blocks.row_pair // choices, -1)
    sorted_x = gather_rows(x, row_token, blocks.position)
    drops, output_rng = _drops(dropout)
    sorted_y = _sorted_ffn(backend, ffn_dims, sorted_x, experts, expert_rows, blocks, drops)
    y = gather_rows(sorted_y, blocks.position.reshape(-1), blocks.row_pair[:, None]).reshape(
        tokens, choices, -1
    )
    if dropout is not None:
        y = drop(y, dropout.output_rate, output_rng)
    identity = jnp.append(widths == 0, False)[routing.chosen]
    y = jnp.where(identity[..., None], x[:, None, :], y)
    return jnp.einsum("nk,nkd->nd", routing.gates.astype(y.dtype), y)


def _drops(dropout: ExpertDropout | None) -> tuple[HiddenDropout | None, jax.Array | None]:
    """Dropout of the hidden units, and the key of the outputs' dropout."""
    if dropout is None:
        return None, None
    hidden_rng, output_rng = split(dropout.rng, 2)
    if dropout.hidden_rate is None:
        return None, output_rng
    if dropout.part is not None:
        hidden_rng = jax.random.fold_in(hidden_rng, dropout.part)
    return HiddenDropout(jnp.asarray(dropout.hidden_rate), hidden_rng), output_rng


def dense_ffn(
    x: Float[Array, "N D"],
    experts: Experts,
    *,
    hidden_dropout: float = 0.0,
    output_dropout: float = 0.0,
    rng: PRNGKeyArray | None = None,
) -> Float[Array, "N D"]:
    """The only expert of a layer applied to all of x [N, D] → [N, D]."""
    rng_hidden, rng_output = (None, None) if rng is None else split(rng, 2)
    hidden = jax.nn.relu(x @ experts.w_in.T + experts.b_in[None])
    return drop(
        drop(hidden, hidden_dropout, rng_hidden) @ experts.w_out + experts.b_out,
        output_dropout,
        rng_output,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sorted_ffn(
    backend: str,
    ffn_dims: tuple[int, ...],
    x: Float[Array, "P D"],
    experts: Experts,
    expert_rows: ExpertRows,
    blocks: BlockLayout,
    drops: HiddenDropout | None,
) -> Float[Array, "P D"]:
    """The experts on sorted rows x [P, D] → [P, D]; rows without a pair have undefined values."""
    return named(backend).forward(ffn_dims, x, experts, expert_rows, blocks, drops)[0]


def _sorted_ffn_fwd(backend, ffn_dims, x, experts, expert_rows, blocks, drops):
    y, hidden = named(backend).forward(ffn_dims, x, experts, expert_rows, blocks, drops)
    return y, (x, hidden, experts, expert_rows, blocks, drops)


def _sorted_ffn_bwd(backend, ffn_dims, residuals, dy):
    x, hidden, experts, expert_rows, blocks, drops = residuals
    dx, d_experts = named(backend).backward(
        ffn_dims, x, hidden, experts, expert_rows, blocks, drops, dy
    )
    d_experts = jax.tree.map(
        lambda gradient, weight: gradient.astype(weight.dtype), d_experts, experts
    )
    d_drops = (
        None
        if drops is None
        else HiddenDropout(jnp.zeros_like(drops.rates), jax.tree.map(no_gradient, drops.rng))
    )
    return dx, d_experts, *jax.tree.map(no_gradient, (expert_rows, blocks)), d_drops


_sorted_ffn.defvjp(_sorted_ffn_fwd, _sorted_ffn_bwd)
