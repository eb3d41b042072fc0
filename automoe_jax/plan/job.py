"""The training step to plan, and the batch that it gets."""

import dataclasses
import functools
from typing import TypeVar

from automoe_jax.arch import Arch
from automoe_jax.config import Config, MeshConfig, TrainConfig, check
from automoe_jax.costs import read_arch
from automoe_jax.data.batching import rows_per_batch
from automoe_jax.errors import UserError
from automoe_jax.model.network import Spec, spec_of
from automoe_jax.runtime.sharding import DATA, EXPERT, MODEL
from automoe_jax.search.limits import Conditions, without_device
from automoe_jax.stages.supernet import TrainedPart, sampled, trained_part

T = TypeVar("T", bound=TrainConfig)


@dataclasses.dataclass(frozen=True)
class Job:
    """A training step and its batch."""

    config: Config
    train: TrainConfig
    spec: Spec
    bucket: int  # tokens of a sentence
    sentences: int  # of an update, over all devices and micro-batches
    configured: int  # micro-batches in the configuration

    @property
    def devices(self) -> int:
        mesh = self.config.mesh
        return mesh.data * mesh.expert * mesh.model

    def archs(self, update: int) -> list[Arch]:
        """The architectures of an update."""
        if self.spec.arch is not None:
            return [self.spec.arch]
        return sampled(self.config, self._trained, update)

    @functools.cached_property
    def _trained(self) -> TrainedPart:
        # the limits that need the device are unknown here
        search = without_device(self.config.search)
        pre_norm = self.spec.norm == "pre"
        conditions = Conditions(search, self.config.router, self.spec.output_size, pre_norm)
        return trained_part(dataclasses.replace(self.config, search=search), conditions)


def parse_mesh(text: str) -> MeshConfig:
    """data:64,expert:4 as a mesh; raises `UserError` for anything else."""
    sizes = {DATA: 1, EXPERT: 1, MODEL: 1}
    for part in text.split(","):
        axis, _, size = part.strip().partition(":")
        if axis not in sizes or not size.isdecimal() or int(size) < 1:
            raise UserError(
                f"--mesh={text} must name {', '.join(sizes)} with a positive number each, as in"
                f" data:64,expert:4; {part!r} does not"
            )
        sizes[axis] = int(size)
    return MeshConfig(**sizes)


def make_job(
    config: Config, mesh: MeshConfig, arch: str = "", bucket: int = 0, widest: bool = False
) -> Job:
    """The step of the SuperNet, or of a single architecture, on this mesh.

    If micro-batches would leave a device less than a sentence, their number is reduced by the same
    factor. Raises `UserError` for a mesh or an architecture that does not fit.
    """
    space = config.space
    if config.task != "translate":
        raise UserError(
            f"config.task={config.task!r} cannot be planned: the number of classes is known only"
            " after the prepare stage"
        )
    if widest:
        if arch:
            raise UserError(
                "--widest is for the SuperNet, and --arch for a single architecture; give one of"
                " them"
            )
        ends = {
            name: getattr(space, name)[-1:] for name in ("encoder_embed_dims", "decoder_embed_dims")
        }
        space = dataclasses.replace(space, **ends)
    parts, longest = mesh.data * mesh.expert, config.data.buckets[-1]
    wanted: TrainConfig = config.retrain if arch else config.supernet
    supernet, retrain = (
        _fitting(config.supernet, longest, parts),
        _fitting(config.retrain, longest, parts),
    )
    config = dataclasses.replace(config, mesh=mesh, space=space, supernet=supernet, retrain=retrain)
    check(config)
    bucket = bucket or longest
    if bucket not in config.data.buckets:
        raise UserError(
            f"--bucket={bucket} is none of config.data.buckets={config.data.buckets}; choose one of"
            " them"
        )
    train: TrainConfig = config.retrain if arch else config.supernet
    spec = spec_of(
        config,
        config.data.vocab_size,
        arch=_arch(config, arch) if arch else None,
        target_vocab_size=config.data.target_vocab_size,
    )
    rows = rows_per_batch(bucket, train.tokens_per_batch, train.accumulate * parts)
    return Job(config, train, spec, bucket, rows, wanted.accumulate)


def _fitting(train: T, longest: int, parts: int) -> T:
    """The job with as many micro-batches as leave every device a sentence."""
    if train.tokens_per_batch >= longest * train.accumulate * parts:
        return train
    return dataclasses.replace(train, accumulate=max(1, train.accumulate // parts))


def _arch(config: Config, name: str) -> Arch:
    ends = {"largest": config.space.largest, "smallest": config.space.smallest}
    return ends[name]() if name in ends else read_arch(name)
