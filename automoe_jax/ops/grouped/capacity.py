"""Equal experts with a bounded number of tokens each (Switch Transformer, section 2.2): the other
tokens skip the layer.

Every expert has C places for the tokens of a device, filled in the order of the tokens. If the mesh
has an `expert` axis, each device holds whole experts, and tokens are exchanged by all-to-all;
hidden units are split over `model`.

Axes: N tokens of a device · K choices · E experts · C places · F expert width · D embedding width ·
U hidden units of all experts.
"""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from automoe_jax.ops.dropout import dropout as drop
from automoe_jax.ops.dropout import split
from automoe_jax.ops.grouped.sorting import gather_rows
from automoe_jax.ops.grouped.table import ExpertDropout, Experts
from automoe_jax.ops.routers.routing import Routing
from automoe_jax.runtime.sharding import DATA, EXPERT, MODEL, SENTENCES

# factor · choices / E in float32 is not rounded up to the next whole number by its own error
_ROUNDING = 1e-4


def capacity_ffn(
    x: Float[Array, "N D"],
    routing: Routing,
    counted: Bool[Array, "N"],
    experts: Experts,
    factor: float,
    dropout: ExpertDropout | None = None,
) -> tuple[Float[Array, "N D"], Bool[Array, "N K"]]:
    """Σ_k gates[n,k] · expert_{chosen[n,k]}(x[n]) over the choices that find a place, x [N, D] →
    [N, D], and whether each choice does, bool [N, K].

    C = ⌈factor · choices / E⌉, with the choices of a device that are made, by tokens where counted
    [N] is true: pads, and the second choice of a network with K = 1, neither take places nor make
    room for others. Under JAX's current mesh its devices share the tokens and experts.
    """
    count, width = experts.b_out.shape
    w_in, w_out = (table.reshape(count, -1, width) for table in (experts.w_in, experts.w_out))
    by_expert = Experts(w_in, experts.b_in.reshape(count, -1), w_out, experts.b_out)
    mesh = jax.sharding.get_abstract_mesh()
    hidden_rate, output_rate = (dropout.hidden_rate, dropout.output_rate) if dropout else (0.0, 0.0)

    def here(
        x: jax.Array, routing: Routing, counted: jax.Array, experts: Experts, rng: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        capacity = math.ceil(factor * routing.chosen.size / count)
        chosen = jnp.where(counted[:, None], routing.chosen, count)
        room = jnp.minimum(capacity_of(factor, jnp.sum(chosen < count), count), capacity)
        slot, slot_pair = _slots(chosen, count, capacity, room)
        slot_token = jnp.where(slot_pair >= 0, slot_pair // chosen.shape[1], -1)
        sent = gather_rows(x, slot_token, slot).reshape(count, capacity, width)
        hidden_rng, output_rng = _keys(rng, mesh)
        if not mesh.empty:
            sent = jax.lax.all_to_all(sent, EXPERT, split_axis=0, concat_axis=1, tiled=True)
        hidden = jax.nn.relu(jnp.einsum("ecd,efd->ecf", sent, experts.w_in) + experts.b_in[:, None])
        y = jnp.einsum("ecf,efd->ecd", drop(hidden, hidden_rate or 0.0, hidden_rng), experts.w_out)
        if not mesh.empty:
            y = jax.lax.psum(y, MODEL)
        y = drop(y + experts.b_out[:, None], output_rate, output_rng)
        if not mesh.empty:
            y = jax.lax.all_to_all(y, EXPERT, split_axis=1, concat_axis=0, tiled=True)
        back = gather_rows(y.reshape(-1, width), slot.reshape(-1), slot_pair[:, None])
        back = back.reshape(*slot.shape, width)
        return jnp.einsum("nk,nkd->nd", routing.gates.astype(back.dtype), back), slot >= 0

    rng = dropout.rng if dropout else None
    if mesh.empty:
        return here(x, routing, counted, by_expert, rng)
    tokens, whole = PartitionSpec(SENTENCES), PartitionSpec()
    split_table = PartitionSpec(EXPERT, MODEL)
    table = Experts._make((split_table, split_table, split_table, PartitionSpec(EXPERT)))
    run = jax.shard_map(
        here,
        in_specs=(tokens, tokens, tokens, table, whole),
        out_specs=(tokens, tokens),
        check_vma=False,
    )
    return run(x, routing, counted, by_expert, rng)


def _slots(
    chosen: Int[Array, "N K"], experts: int, capacity: int, room: Int[Array, ""]
) -> tuple[Int[Array, "N K"], Int[Array, "slots"]]:
    """The slot [N, K] of each choice, −1 without a place, and the flat index n·K + k of the choice
    in each slot [E · C], −1 where it is empty.

    Arrays have `capacity` slots for each expert, of which the first `room` are used.
    """
    place = within_capacity(chosen, experts, room)
    slot = jnp.where(place >= 0, chosen * capacity + place, -1)
    # A choice without a place writes after the last slot, which is discarded.
    filled = jnp.where(slot >= 0, slot, experts * capacity).reshape(-1)
    empty = jnp.full((experts * capacity,), -1, jnp.int32)
    return slot, empty.at[filled].set(jnp.arange(slot.size, dtype=jnp.int32), mode="drop")


def capacity_of(factor: float, choices: Int[Array, ""], experts: int) -> Int[Array, ""]:
    """⌈factor · choices / E⌉ places of each expert, int32."""
    return jnp.ceil(factor * choices / experts - _ROUNDING).astype(jnp.int32)


def within_capacity(
    chosen: Int[Array, "N K"], experts: int, capacity: int | Int[Array, ""]
) -> Int[Array, "N K"]:
    """[N, K] the place 0 … capacity − 1 of each choice in its expert's queue, in the order of the
    tokens; −1 beyond it.

    chosen [N, K] int32, `experts` where a choice is not made (Switch, section 2.2).
    """
    flat = chosen.reshape(-1, 1)
    ahead = jnp.cumsum(jax.nn.one_hot(flat[:, 0], experts, dtype=jnp.int32), axis=0)
    # The column of the choices that are not made counts 0, which makes their place −1.
    ahead = jnp.pad(ahead, ((0, 0), (0, 1)))
    place = jnp.take_along_axis(ahead, flat, axis=1).reshape(chosen.shape) - 1
    return jnp.where(place < capacity, place, -1)


def _keys(
    rng: PRNGKeyArray | None, mesh: jax.sharding.AbstractMesh
) -> tuple[PRNGKeyArray | None, PRNGKeyArray | None]:
    """Keys of the dropout of hidden units and of outputs on a device; devices that share outputs
    drop the same ones.
    """
    if rng is None:
        return None, None
    if not mesh.empty:
        rng = jax.random.fold_in(rng, jax.lax.axis_index((DATA, EXPERT)))
    hidden_rng, output_rng = split(rng, 2)
    return (
        hidden_rng if mesh.empty else jax.random.fold_in(hidden_rng, jax.lax.axis_index(MODEL))
    ), output_rng
