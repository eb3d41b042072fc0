"""Weights in 8-bit integers, a quarter of the memory, for translation.

Every matrix except the routers' becomes int8 with a float32 scale per output unit (per row in the
table of the vocabulary and of the experts' hidden units), symmetric, from the largest absolute
value, as computed by qwix. Matrix products remain float32: the weights are widened once per batch
of sentences, so an int8 network needs a quarter of the storage and transfer but its products are
not faster.
"""

import dataclasses
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from automoe_jax.errors import UserError
from automoe_jax.model.network import Network

# Axes with a scale per entry, by the matrix's name; the others share one.
OWN_SCALES = {"table": (0,), "w_in": (0,), "w_out": (0,), "kernel": (1, 2)}


class Int8(NamedTuple):
    """values · scales represents an array of floats."""

    values: jax.Array  # int8
    scales: jax.Array  # float32, 1 along the axes that share a scale


def load_qwix() -> ModuleType:
    """The library that quantises, an optional dependency; raises `UserError` without it."""
    try:
        import qwix
    except ModuleNotFoundError:
        raise UserError(
            "int8 needs the library qwix; install it with pip install 'automoe-jax[int8]', or leave"
            " int8 off"
        ) from None
    return qwix


def quantised(network: Network) -> Network:
    """The network with its matrices as `Int8`, for `decode.beam_search`; raises `UserError` without
    the library.
    """
    qwix = load_qwix()

    def convert(path: Any, array: jax.Array) -> jax.Array | Int8:
        if path[-1].key not in OWN_SCALES:
            return array
        found = qwix.quantize(array, jnp.int8, channelwise_axes=OWN_SCALES[path[-1].key])
        return Int8(found.qvalue, found.scale.astype(jnp.float32))

    return dataclasses.replace(
        network, params=jax.tree_util.tree_map_with_path(convert, network.params)
    )


def widened(network: Network) -> Network:
    """The inverse of `quantised` up to rounding, float32; any other network is unchanged."""

    def widen(leaf):
        return leaf.values.astype(jnp.float32) * leaf.scales if isinstance(leaf, Int8) else leaf

    params = jax.tree.map(widen, network.params, is_leaf=lambda leaf: isinstance(leaf, Int8))
    return dataclasses.replace(network, params=params)


def size(network: Network) -> int:
    """Bytes of the parameters."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(network.params))
