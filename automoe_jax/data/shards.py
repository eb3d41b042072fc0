"""Sentences of a batch that a process reads, and arrays over all devices made from them.

A batch is the same for any number of processes; each assembles only the rows that its own devices
hold.

Axes: A micro-batches · B sentences of a micro-batch · S tokens · P parts, each held by different
devices.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Int32

from automoe_jax.data.batching import Batch
from automoe_jax.runtime.sharding import Placement


def held_rows(placement: Placement, accumulate: int, rows: int) -> Int[np.ndarray, "held"]:
    """Indices, increasing, of the sentences among a batch's `rows` = A · B that this process's
    devices hold.
    """
    grid = np.arange(rows).reshape(accumulate, placement.sentence_parts, -1)  # [A, P, B/P]
    return grid[:, _held_parts(placement)].reshape(-1)


def micro_batches(
    placement: Placement, accumulate: int, batch: Batch
) -> dict[str, Int32[Array, "A B S"]]:
    """Arrays [A, B, S] of a batch, of which each process supplies the rows of `held_rows`."""
    sharding = placement.micro_batches
    if sharding is None or jax.process_count() == 1:
        whole = {side: rows.reshape(accumulate, -1, rows.shape[-1]) for side, rows in batch.items()}
        return jax.device_put(whole, sharding)
    held, parts = _held_parts(placement), placement.sentence_parts

    def joined(rows: Int32[np.ndarray, "_ S"]) -> Int32[Array, "A B S"]:
        local = rows.reshape(accumulate, len(held), -1, rows.shape[-1])  # [A, held, B/P, S]
        size = local.shape[2]

        def part(index: Any) -> Int32[np.ndarray, "A _ S"]:  # the slices of a device
            return local[:, held.index((index[1].start or 0) // size)]

        return jax.make_array_from_callback(
            (accumulate, parts * size, rows.shape[-1]), sharding, part
        )

    return {side: joined(rows) for side, rows in batch.items()}


def put_on_devices(tree: Any, shardings: Any) -> Any:
    """Arrays over all devices of values that every process has whole; `shardings` is a matching
    tree, or one sharding for all.
    """
    if shardings is None or jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)

    def place(array, sharding):
        return jax.make_array_from_callback(array.shape, sharding, np.asarray(array).__getitem__)

    return jax.tree.map(place, tree, shardings)


def _held_parts(placement: Placement) -> list[int]:
    """Indices, increasing, of the parts of a micro-batch's sentences that this process's devices
    hold.
    """
    if placement.batch is None:
        return [0]
    indices = placement.batch.addressable_devices_indices_map((placement.sentence_parts,))
    return sorted({index[0].start or 0 for index in indices.values() if index is not None})
