"""Experts strip by strip, for any grouped product: shared by all accelerators.

A strip holds the hidden units between two consecutive widths that an expert can have, so an expert
has all or nothing of a strip. The strips of all experts form one array [E, F, D], and a platform's
products multiply each block of rows by its expert's strip. Blocks whose expert is narrower are not
live; where the products skip them, the time follows Σ tokens · width.

Axes: as in the package's docstring, and B = P/R blocks of rows · F units of a strip.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from automoe_jax.ops.dropout import keep_scale, kept_scale
from automoe_jax.ops.grouped.sorting import BlockLayout, by_width
from automoe_jax.ops.grouped.table import ExpertRows, Experts, HiddenDropout


class Groups(NamedTuple):
    """Live blocks of rows of a product, and the expert of each block."""

    expert: Int[Array, "B"]
    live: Bool[Array, "B"]
    order: Int[Array, "E"]  # order of the experts' rows


class Products(NamedTuple):
    """Products of rows with their expert's matrix, summed in float32; rows that are not live have
    undefined values.
    """

    # [P, D], [E, F, D] → [P, F] in the inputs' type
    up: Callable[[jax.Array, jax.Array, Groups], jax.Array]
    down: Callable[[jax.Array, jax.Array, Groups], jax.Array]  # [P, F], [E, F, D] → float32 [P, D]
    # [P, F], [P, D] → float32 [E, F, D], over live rows
    outer: Callable[[jax.Array, jax.Array, Groups], jax.Array]


class Strip(NamedTuple):
    """Hidden units `first` ≤ u < `end` of every expert."""

    first: int
    end: int


def strips(ffn_dims: tuple[int, ...]) -> list[Strip]:
    """One strip from each width to the next."""
    return [Strip(*ends) for ends in zip((0, *ffn_dims), ffn_dims, strict=False)]


def forward(
    products: Products,
    ffn_dims: tuple[int, ...],
    x: Float[Array, "P D"],
    experts: Experts,
    expert_rows: ExpertRows,
    layout: BlockLayout,
    dropout: HiddenDropout | None,
) -> tuple[Float[Array, "P D"], list[Float[Array, "P _"]]]:
    """The experts on sorted rows x [P, D] → [P, D] and the hidden units [P, F] of each strip."""
    y = jnp.broadcast_to(
        experts.b_out[layout.block_expert].astype(jnp.float32)[:, None], _by_block(x, layout).shape
    ).reshape(x.shape)
    hidden = []
    for number, strip in enumerate(strips(ffn_dims)):
        groups, weights = _groups(layout, expert_rows, strip), _cut(experts, expert_rows, strip)
        pre = (
            _by_block(products.up(x, weights.w_in, groups), layout)
            + weights.b_in[layout.block_expert][:, None]
        )
        part = _live(jax.nn.relu(pre), groups)
        if dropout is not None:
            rates = dropout.rates[layout.block_expert][:, None, None]
            part = part * keep_scale(
                jax.random.fold_in(dropout.rng, number), rates, part.shape
            ).astype(part.dtype)
        hidden.append(part.reshape(len(x), -1))
        y += _live(
            _by_block(products.down(hidden[-1], weights.w_out, groups), layout), groups
        ).reshape(x.shape)
    return y.astype(x.dtype), hidden


def backward(
    products: Products,
    ffn_dims: tuple[int, ...],
    x: Float[Array, "P D"],
    hidden: list[Float[Array, "P _"]],
    experts: Experts,
    expert_rows: ExpertRows,
    layout: BlockLayout,
    dropout: HiddenDropout | None,
    dy: Float[Array, "P D"],
) -> tuple[Float[Array, "P D"], Experts]:
    """Gradients with respect to x [P, D] and, in float32, to the weights, for dy [P, D] and the
    results of `forward`.

    dy is zero in rows that hold no pair.
    """
    scale = (
        1.0 if dropout is None else kept_scale(dropout.rates)[layout.block_expert][:, None, None]
    )
    dx = jnp.zeros(x.shape, jnp.float32)
    d_experts = jax.tree.map(lambda weight: jnp.zeros(weight.shape, jnp.float32), experts)
    d_experts = d_experts._replace(b_out=_sum_by_expert(_by_block(dy, layout), layout, expert_rows))
    for strip, part in zip(strips(ffn_dims), hidden, strict=True):
        groups, weights = _groups(layout, expert_rows, strip), _cut(experts, expert_rows, strip)
        d_hidden = _by_block(products.up(dy, weights.w_out, groups), layout) * scale
        # An active unit is positive after dropout too, so the mask need not be drawn again.
        d_pre = jnp.where(_by_block(part, layout) > 0, d_hidden, 0).astype(x.dtype)
        d_bias = _sum_by_expert(d_pre, layout, expert_rows)
        d_pre = d_pre.reshape(part.shape)
        dx += _live(_by_block(products.down(d_pre, weights.w_in, groups), layout), groups).reshape(
            x.shape
        )
        d_weights = Experts(
            products.outer(d_pre, x, groups),
            d_bias,
            products.outer(part, dy, groups),
            d_experts.b_out,
        )
        d_experts = _add_cut(d_experts, d_weights, expert_rows, strip)
    return dx.astype(x.dtype), d_experts


def _groups(layout: BlockLayout, expert_rows: ExpertRows, strip: Strip) -> Groups:
    exists = jnp.arange(layout.block_expert.shape[0]) < layout.blocks
    return Groups(
        layout.block_expert,
        exists & (expert_rows.widths[layout.block_expert] >= strip.end),
        by_width(jnp.asarray(expert_rows.widths)),
    )


def _cut(experts: Experts, expert_rows: ExpertRows, strip: Strip) -> Experts:
    """w_in and w_out [E, F, D], b_in [E, F] of the strip; undefined for experts that do not have
    it.
    """

    def cut(weight):
        starts = [start + strip.first for start in jnp.asarray(expert_rows.starts)]
        return jnp.stack(
            [
                jax.lax.dynamic_slice_in_dim(weight, start, strip.end - strip.first)
                for start in starts
            ]
        )

    return experts._replace(
        w_in=cut(experts.w_in), b_in=cut(experts.b_in), w_out=cut(experts.w_out)
    )


def _add_cut(experts: Experts, parts: Experts, expert_rows: ExpertRows, strip: Strip) -> Experts:
    """Adds the parts [E, F, …] at the rows of `_cut`; zeros for experts without the strip."""

    def add(weight, parts):
        for start, part in zip(expert_rows.starts, parts, strict=True):
            old = jax.lax.dynamic_slice_in_dim(weight, start + strip.first, part.shape[0])
            weight = jax.lax.dynamic_update_slice_in_dim(weight, old + part, start + strip.first, 0)
        return weight

    return experts._replace(
        w_in=add(experts.w_in, parts.w_in),
        b_in=add(experts.b_in, parts.b_in),
        w_out=add(experts.w_out, parts.w_out),
    )


def _by_block(x: jax.Array, layout: BlockLayout) -> jax.Array:
    """[P, …] → [B, R, …]."""
    return x.reshape(layout.block_expert.shape[0], -1, *x.shape[1:])


def _live(x: jax.Array, groups: Groups) -> jax.Array:
    """x [B, R, …] with zeros in blocks that are not live."""
    return jnp.where(groups.live[:, None, None], x, 0)


def _sum_by_expert(x: jax.Array, layout: BlockLayout, expert_rows: ExpertRows) -> jax.Array:
    """[B, R, O] → float32 [E, O]."""
    return jax.ops.segment_sum(
        x.sum(1, dtype=jnp.float32), layout.block_expert, expert_rows.widths.shape[0]
    )
