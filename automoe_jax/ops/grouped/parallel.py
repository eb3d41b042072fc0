"""Experts of a layer split over the devices of a mesh; dropless.

Devices that differ in `expert` or `model` hold equal, contiguous parts of the rows of the hidden
table, independent of experts: a boundary may cut an expert, since its output is a sum over hidden
units. Devices that differ in `expert` also hold different tokens. Each gathers the tokens of all of
them and computes its rows' contribution to them; the sums are scattered back. No token is dropped
for any routing.

Axes: N tokens · K choices · D embedding width · U hidden units of all experts · E experts.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from automoe_jax.ops.grouped import (
    ExpertDropout,
    ExpertRows,
    Experts,
    TableShape,
    experts_ffn,
    width_choices,
)
from automoe_jax.ops.routers.routing import Routing
from automoe_jax.runtime.sharding import DATA, EXPERT, HIDDEN, MODEL, SENTENCES


def parallel_experts_ffn(
    x: Float[Array, "N D"],
    routing: Routing,
    experts: Experts,
    expert_rows: ExpertRows,
    shape: TableShape,
    dropout: ExpertDropout | None = None,
) -> Float[Array, "N D"]:
    """`experts_ffn` over JAX's current mesh, or without a mesh `experts_ffn` itself; x [N, D].

    The result is the same up to the order of sums; dropout masks depend on the mesh.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return experts_ffn(x, routing, experts, expert_rows, shape.ffn_dims, dropout)
    parts = mesh.shape[EXPERT] * mesh.shape[MODEL]
    starts = np.cumsum((0, *shape.max_widths[:-1]), dtype=np.int32)
    possible = [(width,) if shape.exact else shape.ffn_dims for width in shape.max_widths]
    part_dims = part_widths(possible, shape.max_widths, parts)
    output_rate = dropout.output_rate if dropout else 0.0

    def here(
        x: jax.Array, routing: Routing, experts: Experts, widths: jax.Array, rates: Any, rng: Any
    ) -> jax.Array:
        part, rows = jax.lax.axis_index(HIDDEN), len(experts.w_in)
        x, routing = jax.tree.map(
            lambda array: jax.lax.all_gather(array, EXPERT, tiled=True), (x, routing)
        )
        begins_here = jnp.asarray(starts // rows) == part
        own_dropout = None
        if rng is not None:
            own_rng = jax.random.fold_in(rng, jax.lax.axis_index(DATA))
            own_dropout = ExpertDropout(rates, output_rate, own_rng, part)
        y = experts_ffn(
            x,
            routing,
            experts._replace(b_out=jnp.where(begins_here[:, None], experts.b_out, 0)),
            part_of(ExpertRows(starts, widths), part, rows),
            part_dims,
            own_dropout,
        )
        return jax.lax.psum(jax.lax.psum_scatter(y, EXPERT, tiled=True), MODEL)

    tokens, table, whole = PartitionSpec(SENTENCES), PartitionSpec(HIDDEN), PartitionSpec()
    tables = Experts._make((table, table, table, whole))
    # The loops over blocks carry values that differ between devices together with values that do
    # not, which `check_vma` does not allow.
    run = jax.shard_map(
        here,
        in_specs=(tokens, tokens, tables, whole, whole, whole),
        out_specs=tokens,
        check_vma=False,
    )
    rates, rng = (dropout.hidden_rate, dropout.rng) if dropout else (None, None)
    return run(x, routing, experts, jnp.asarray(expert_rows.widths), rates, rng)


def part_of(expert_rows: ExpertRows, part: Int[Array, ""] | int, rows: int) -> ExpertRows:
    """The rows of each expert among part · rows ≤ u < (part + 1) · rows, counted from the first of
    these.

    An expert that owns none of them is absent there; an identity expert is in the first part only.
    """
    first, last = (
        jnp.clip(place - part * rows, 0, rows)
        for place in (expert_rows.starts, expert_rows.starts + jnp.maximum(expert_rows.widths, 0))
    )
    identity = (expert_rows.widths == 0) & (part == 0)
    return ExpertRows(first, jnp.where(last > first, last - first, jnp.where(identity, 0, -1)))


def part_widths(
    choices: Sequence[tuple[int, ...]], max_widths: tuple[int, ...], parts: int
) -> tuple[int, ...]:
    """Possible widths of an expert in any of the equal parts of a table; `part_of` in Python
    numbers.
    """
    rows = sum(max_widths) // parts
    edges = list(itertools.pairwise(range(0, sum(max_widths) + 1, rows)))
    starts = itertools.accumulate(max_widths, initial=0)
    ranges = [
        (start, start + width)
        for start, widths in zip(starts, choices, strict=False)
        for width in widths
    ]
    return width_choices(
        [
            min(last, end) - max(first, begin)
            for (first, last), (begin, end) in itertools.product(ranges, edges)
        ]
    )
