"""Networks as safetensors files: all arrays by name, and what they are in the metadata."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import save

from automoe_jax.arch import Arch
from automoe_jax.config import Config, flatten, from_flat
from automoe_jax.errors import UserError
from automoe_jax.model.network import Network, spec_of

FORMAT = "automoe_jax network"
_SEPARATOR = "/"


def to_safetensors(network: Network, config: Config) -> bytes:
    """The file of a sub-Transformer that was trained with `config`.

    The metadata hold the architecture, the configuration and the sizes of vocabularies, as JSON.
    """
    spec = network.spec
    sizes = {
        "vocab_size": spec.vocab_size,
        "target_vocab_size": spec.target_vocab_size,
        "classes": spec.classes,
    }
    metadata = {
        "format": FORMAT,
        "architecture": spec.exact_arch.to_json(),
        "config": json.dumps(flatten(dataclasses.asdict(config))),
        "sizes": json.dumps(sizes),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in _named(network.params)}
    return save(arrays, metadata)


def from_safetensors(path: str) -> Network:
    """The network that `to_safetensors` wrote to `path`; raises `UserError` for another file."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is no safetensors file that can be read: {error}") from None
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path} holds no network of this package; export it with python -m"
            " automoe_jax.export --format=safetensors"
        )
    spec = spec_of(
        from_flat(json.loads(metadata["config"])),
        arch=Arch.from_json(metadata["architecture"]),
        **json.loads(metadata["sizes"]),
    )
    return Network(_nested(arrays), spec)


def _named(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of nested dictionaries with the path of each."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _named(value, f"{prefix}{name}{_SEPARATOR}")
        else:
            yield prefix + name, np.asarray(value)


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The inverse of `_named`."""
    params: dict[str, Any] = {}
    for path, array in arrays.items():
        *parents, name = path.split(_SEPARATOR)
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = jnp.asarray(array)
    return params
