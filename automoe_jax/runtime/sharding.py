"""Placement of arrays on devices: one mesh, and one table from logical axes of arrays to axes of
the mesh.

The sentences of a batch are split over `data` and `expert`, the experts' hidden units over `expert`
and `model`, queries, keys and values and the vocabulary over `model`. Arrays without a rule are
replicated. With FSDP, parameters and the optimizer's state are also split over `data` and gathered
where they are used.

Axes: A micro-batches · B sentences.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from automoe_jax.config import Config, MeshConfig
from automoe_jax.errors import UserError

DATA, EXPERT, MODEL = "data", "expert", "model"
SENTENCES = (DATA, EXPERT)  # axes that split a batch
HIDDEN = (EXPERT, MODEL)  # axes that split the rows of a hidden table

RULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "vocab": (MODEL,),
        "class": (),
        "embed": (),
        "memory": (),  # the encoder's width in the decoder
        "qkv": (MODEL,),
        "parts": (),
        "hidden": HIDDEN,
        # the router's columns and the experts' biases: small, needed on all devices
        "expert": (),
        "set": (),  # of weights that a SuperNet mixes
        "gene": (),
        "width": (),  # of embeddings, for which a SuperNet's LayerNorms differ
    }
)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Shardings of arrays. Without a mesh, everything is on one device and all shardings are None,
    JAX's default.
    """

    mesh: Mesh | None = None
    fsdp: bool = False

    @property
    def sentence_parts(self) -> int:
        """Number of devices that share the sentences of a batch; its number of sentences must be a
        multiple.
        """
        return 1 if self.mesh is None else math.prod(self.mesh.shape[axis] for axis in SENTENCES)

    @property
    def everywhere(self) -> NamedSharding | None:
        """Sharding of replicated arrays."""
        return self._sharding()

    @property
    def batch(self) -> NamedSharding | None:
        """Sharding of tokens [B, S]."""
        return self._sharding(SENTENCES)

    @property
    def micro_batches(self) -> NamedSharding | None:
        """Sharding of tokens [A, B, S]."""
        return self._sharding(None, SENTENCES)

    def params(self, axes: Any, shapes: Any) -> Any:
        """Sharding of every parameter, from the trees of logical axis names and of objects with a
        shape.

        Raises `UserError` for a parameter without a rule, or which its rule cannot divide.
        """
        if self.mesh is None:
            return None
        sizes = self.mesh.shape

        def place(path, leaf, names):
            return self._sharding(*_partition(path, names, leaf.shape, sizes, self.fsdp))

        return jax.tree_util.tree_map_with_path(place, shapes, axes)

    def optimizer_state(
        self, transform: optax.GradientTransformation, params: Any, shapes: Any
    ) -> Any:
        """Sharding of an optimizer's state: its arrays for a parameter are placed like the
        parameter.
        """
        if self.mesh is None:
            return None
        state = jax.eval_shape(transform.init, shapes)
        return optax.tree.map_params(
            transform,
            lambda _, sharding: sharding,
            state,
            params,
            transform_non_params=lambda _: self.everywhere,
        )

    def jit(
        self, function: Callable[..., Any], in_shardings: Any, out_shardings: Any, **options: Any
    ) -> Any:
        """`jax.jit` with these shardings, traced with the mesh as JAX's current one."""
        if self.mesh is None:
            return jax.jit(function, **options)
        mesh = self.mesh.abstract_mesh

        @functools.wraps(function)
        def under_mesh(*arguments: Any) -> Any:
            with jax.sharding.use_abstract_mesh(mesh):
                return function(*arguments)

        return jax.jit(
            under_mesh, in_shardings=in_shardings, out_shardings=out_shardings, **options
        )

    def _sharding(self, *partition: Any) -> NamedSharding | None:
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec(*partition))


ONE_DEVICE = Placement()


def placement(config: Config, devices: Sequence[jax.Device] | None = None) -> Placement:
    """The configured mesh over these devices, by default all; raises `UserError` if it does not
    match them.
    """
    return Placement(make_mesh(config.mesh, devices), config.fsdp)


def make_mesh(sizes: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """The mesh, or None if it has only one device."""
    devices = jax.devices() if devices is None else devices
    others = sizes.expert * sizes.model
    data = sizes.data or len(devices) // others
    if data * others != len(devices):
        wanted = (
            f"config.mesh=data:{sizes.data or 'what is left'},"
            f"expert:{sizes.expert},model:{sizes.model}"
        )
        raise UserError(
            f"{wanted} does not match the {len(devices)} devices; their product must"
            f" be {len(devices)}"
        )
    if len(devices) == 1:
        return None
    shape = (data, sizes.expert, sizes.model)
    return jax.make_mesh(
        shape, (DATA, EXPERT, MODEL), axis_types=(AxisType.Auto,) * len(shape), devices=devices
    )


def _partition(
    path: Any, names: tuple[str, ...], shape: tuple[int, ...], sizes: Mapping[str, int], fsdp: bool
) -> list[tuple[str, ...]]:
    """Mesh axes that split each dimension of a parameter."""
    where = jax.tree_util.keystr(path, simple=True, separator="/")
    partition = []
    for name, length in zip(names, shape, strict=True):
        if name not in RULES:
            raise UserError(
                f"the parameter {where} has an axis {name!r} without a rule; add one to"
                " sharding.RULES"
            )
        parts = math.prod(sizes[axis] for axis in RULES[name])
        if length % parts:
            split = " × ".join(f"{axis}:{sizes[axis]}" for axis in RULES[name])
            raise UserError(
                f"the parameter {where} has {length} entries along {name!r}, which"
                f" config.mesh={split} does not divide; choose sizes of the mesh that divide it"
            )
        partition.append(RULES[name])
    free = [
        axis
        for axis, length in enumerate(shape)
        if not partition[axis] and length % sizes[DATA] == 0
    ]
    if fsdp and free:
        partition[max(free, key=lambda axis: shape[axis])] = (DATA,)
    return partition
