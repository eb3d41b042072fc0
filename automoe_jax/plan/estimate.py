"""Memory, FLOPs, communication and time of a planned step."""

import dataclasses
import importlib.util
import math
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.costs import Costs, costs
from automoe_jax.errors import UserError
from automoe_jax.model.network import Network, abstract
from automoe_jax.model.transformer import training_options
from automoe_jax.ops.grouped import use_backend
from automoe_jax.plan import hlo
from automoe_jax.plan.chips import Chip, slice_shape
from automoe_jax.plan.job import Job
from automoe_jax.runtime.sharding import placement
from automoe_jax.train.loop import DROPOUT_RNG
from automoe_jax.train.step import init_state, make_train_step

UPDATES = 200  # updates of the SuperNet whose sampled architectures give the mean FLOPs


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each device, as the compiler plans them."""

    arguments: int  # parameters, the optimizer's state and the batch
    outputs: int
    reused: int  # of the outputs, in the memory of arguments
    temporaries: int
    peak: int


@dataclasses.dataclass(frozen=True)
class Flops:
    """Of an update, over all devices."""

    model: float  # three times the forward pass, the mean over architectures
    largest: float  # the same for the most expensive update
    again: float  # recomputed to save memory, at most


@dataclasses.dataclass(frozen=True)
class Seconds:
    """A roofline: time of each part at the chip's peak."""

    compute: float
    memory: float
    links: float

    @property
    def overlapped(self) -> float:
        """Time if all three overlap."""
        return max(self.compute, self.memory, self.links)

    @property
    def serial(self) -> float:
        """If none of them do."""
        return self.compute + self.memory + self.links


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything the command prints."""

    job: Job
    chip: Chip
    compiler: str  # of a TPU, or of simulated devices
    is_estimate: bool
    memory: Memory
    flops: Flops
    traffic: hlo.Traffic
    compile_seconds: float

    @property
    def fits(self) -> bool:
        return self.memory.peak <= self.chip.memory

    @property
    def memory_traffic(self) -> float:
        """Bytes that a device reads and writes: according to the TPU's program, otherwise every
        array once each way, the minimum.

        A program for a CPU moves arrays through memory between more instructions and does not
        describe a chip.
        """
        if not self.is_estimate:
            return self.traffic.memory
        return (
            self.memory.arguments
            + self.memory.outputs
            + 2 * self.job.train.accumulate * self.memory.temporaries
        )

    @property
    def seconds(self) -> Seconds:
        sent = {
            crosses: sum(
                m.sent for kind, m in self.traffic.collectives.items() if kind.crosses == crosses
            )
            for crosses in (False, True)
        }
        flops = self.flops.model + self.flops.again
        links = sent[False] / self.chip.link + sent[True] / self.chip.network
        return Seconds(
            flops / self.job.devices / self.chip.flops,
            self.memory_traffic / self.chip.bandwidth,
            links,
        )


class Target(NamedTuple):
    """Devices and backend that a step is compiled for."""

    devices: list[Any]
    backend: str  # of the experts
    platform: str
    compiler: str
    is_estimate: bool


def make_plan(job: Job, kind: Chip, simulate: bool = False) -> Plan:
    """Compiles the step and reads its requirements; raises `UserError` if the TPU's compiler
    reports that it does not fit.
    """
    target = choose_target(kind, job.devices, simulate)
    started = time.perf_counter()
    with _progress(f"compiling for {job.devices} × {kind.title}"):
        try:
            compiled = compile_step(job, target)
        except jax.errors.JaxRuntimeError as error:
            used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", str(error))
            if not used:
                raise
            raise UserError(
                f"the step needs {used[1]} of the {used[2]} memory of a {kind.title};"
                f" {advice(job, kind)}"
            ) from None
        traffic = hlo.traffic(compiled.as_text(), kind.domain)
    return Plan(
        job,
        kind,
        target.compiler,
        target.is_estimate,
        memory_of(compiled),
        flops_of(job),
        traffic,
        round(time.perf_counter() - started, 1),
    )


def choose_target(kind: Chip, count: int, simulate: bool) -> Target:
    """This number of chips of a TPU slice that need not exist, or simulated devices."""
    shape = slice_shape(kind, count)
    if simulate:
        why = "as requested"
    elif not kind.topology:
        why = f"as there is no compiler for a {kind.title} without one"
    elif shape is None:
        why = f"as no slice of {kind.title} has {count} chips"
    elif importlib.util.find_spec("libtpu") is None:
        why = 'as libtpu is not installed (`pip install "jax[tpu]"` installs it)'
    else:
        name = "x".join(map(str, shape))
        try:
            return Target(
                _slice(kind, shape),
                "megablox",
                "tpu",
                f"the compiler of a {kind.title} slice {name}",
                False,
            )
        except RuntimeError as error:
            why = f"as libtpu knows no slice {name} ({str(error).splitlines()[0]})"
    return Target(_simulated(count), "blocks", "cpu", f"simulated devices, {why}", True)


def compile_step(job: Job, target: Target) -> Any:
    """The training step compiled for the job's mesh over these devices; allocates no arrays."""
    placed = placement(job.config, target.devices)
    step: Any = make_train_step(
        job.spec,
        job.train,
        training_options(job.config),
        placed,
    )
    tokens = jax.ShapeDtypeStruct(
        (job.train.accumulate, job.sentences // job.train.accumulate, job.bucket), np.int32
    )
    archs = jax.tree.map(lambda *genes: np.stack(genes), *job.archs(0))
    arguments = (
        jax.eval_shape(
            lambda params: init_state(Network(params, job.spec), job.train),
            abstract(job.spec).params,
        ),
        {"source": tokens, "target": tokens},
        jax.tree.map(lambda genes: jax.ShapeDtypeStruct(genes.shape, genes.dtype), archs),
        jax.eval_shape(lambda: jax.random.key(0, impl=DROPOUT_RNG)),
    )
    if placed.mesh is None:
        here = jax.sharding.SingleDeviceSharding(target.devices[0])
        arguments = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), arguments
        )
    # LLVM's optimisations are slow and do not change buffers.
    options = {"xla_backend_optimization_level": 0} if target.platform == "cpu" else {}
    with use_backend(target.backend):
        return step.trace(*arguments).lower(lowering_platforms=(target.platform,)).compile(options)


def memory_of(compiled: Any) -> Memory:
    """Memory of a program on each device, from the compiler."""
    stats = compiled.memory_analysis()
    arguments, outputs, reused = (
        stats.argument_size_in_bytes,
        stats.output_size_in_bytes,
        stats.alias_size_in_bytes,
    )
    peak = arguments + outputs - reused + stats.temp_size_in_bytes
    return Memory(arguments, outputs, reused, stats.temp_size_in_bytes, peak)


def flops_of(job: Job) -> Flops:
    """FLOPs of an update: the mean over the architectures of the first `UPDATES` updates, and the
    maximum.
    """
    updates = 1 if job.spec.arch is not None else UPDATES
    drawn = [job.archs(update) for update in range(updates)]
    forward = statistics.fmean(
        sum(_costs(job, arch).flops_with_vocabulary for arch in archs) for archs in drawn
    )
    again = statistics.fmean(
        sum(_costs(job, arch).flops - _kept(job, arch) for arch in archs) for archs in drawn
    )
    most = job.spec.arch or job.spec.space.largest()
    largest = len(drawn[0]) * _costs(job, most).flops_with_vocabulary
    sentences = job.sentences * job.train.passes
    return Flops(3 * sentences * forward, 3 * sentences * largest, sentences * again)


def advice(job: Job, kind: Chip, memory: Memory | None = None) -> str:
    """Settings to change where the memory is too small."""
    name = "supernet" if job.spec.arch is None else "retrain"
    ways = []
    if memory is None or memory.arguments < kind.memory:
        over = 2.0 if memory is None else memory.temporaries / (kind.memory - memory.arguments)
        more = 2 ** math.ceil(math.log2(max(2.0, over)))
        most = job.train.tokens_per_batch // (
            job.config.data.buckets[-1] * job.config.mesh.data * job.config.mesh.expert
        )
        if job.train.accumulate < most:
            ways.append(f"try --config.{name}.accumulate={min(job.train.accumulate * more, most)}")
        if job.config.remat != "full":
            ways.append("--config.remat=full")
    if not job.config.fsdp and job.config.mesh.data > 1:
        ways.append("--config.fsdp=True")
    ways.append("more devices, or a chip with more memory")
    return "it does not fit: " + ", or ".join(ways)


def _slice(kind: Chip, shape: Sequence[int]) -> list[Any]:
    """Chips of a slice that exists only for the compiler."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no cloud to ask
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    options = {"chips_per_host_bounds": (1, 1, 1)} if math.prod(shape) == 1 else {}
    name = f"{kind.topology}:{'x'.join(map(str, shape))}"
    return list(topologies.get_topology_desc(name, platform="tpu", **options).devices)


def _simulated(count: int) -> list[Any]:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has started already
        if len(jax.devices("cpu")) < count:
            raise
    return jax.devices("cpu")[:count]


def _costs(job: Job, arch: Arch) -> Costs:
    """Costs of one sentence pair of the batch, in a forward pass."""
    return costs(
        arch,
        job.bucket,
        job.bucket,
        job.spec.output_size,
        router=job.config.router.costs(arch),
        pre_norm=job.spec.norm == "pre",
    )


def _kept(job: Job, arch: Arch) -> float:
    """Forward FLOPs of a sentence that the backward pass does not recompute: of layers that every
    architecture has.
    """
    if job.config.remat != "none":
        return 0
    if job.spec.arch is not None:
        return _costs(job, arch).flops
    record = arch.to_dict()
    for side in ("encoder", "decoder"):
        record[side]["layers"] = record[side]["layers"][: job.spec.least_layers(side)]
    return _costs(job, Arch.from_dict(record)).flops


@contextmanager
def _progress(title: str) -> Iterator[None]:
    """Shows elapsed time on stderr."""
    done = threading.Event()
    with tqdm(desc=title, bar_format="{desc}, {elapsed}", file=sys.stderr) as bar:

        def tick() -> None:
            while not done.wait(5):
                bar.refresh()

        ticking = threading.Thread(target=tick, daemon=True)
        ticking.start()
        try:
            yield
        finally:
            done.set()
            ticking.join()
