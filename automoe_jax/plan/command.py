"""What a training step needs on a mesh of devices that need not be there: memory, FLOPs,
communication and time.

    python -m automoe_jax.plan --config=configs/wmt_supernet.py --mesh=data:64,expert:4 [--chip=v5e]
    [--json=FILE]

The step is the one that `main` runs, compiled ahead of time for that mesh: by the TPU's own
compiler where libtpu is installed and a slice of so many chips exists, otherwise for simulated
devices of this machine, whose memory is an estimate. FLOPs are the closed form of `costs`, three
times the forward pass; bytes are read from the compiled program. The time is a model, a bound that
no run will beat, not a measurement.
"""

import dataclasses
import functools
import importlib.util
import json
import math
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.config import Config, MeshConfig, TrainConfig, check
from automoe_jax.costs import Costs, costs, read_arch
from automoe_jax.data.batching import rows_per_batch
from automoe_jax.errors import UserError
from automoe_jax.main import parse
from automoe_jax.model.network import Network, Spec, abstract, spec_of
from automoe_jax.model.transformer import ForwardOptions
from automoe_jax.ops.grouped import use_backend
from automoe_jax.plan import hlo
from automoe_jax.plan.chips import CHIPS, Chip, chip, slice_shape
from automoe_jax.runtime.files import atomic_writer
from automoe_jax.runtime.sharding import DATA, EXPERT, MODEL, placement
from automoe_jax.stages.supernet import TrainedPart, sampled, trained_part
from automoe_jax.train.loop import DROPOUT_RNG
from automoe_jax.train.step import init_state, make_train_step

_MESH = flags.DEFINE_string(
    "mesh",
    "data:1",
    "The devices along each axis, as in data:64,expert:4; an axis that is left out has one.",
)
_CHIP = flags.DEFINE_string("chip", "v5e", f"What they are: one of {', '.join(CHIPS)}.")
_ARCH = flags.DEFINE_string(
    "arch",
    "",
    "Train this architecture alone, as retrain does: largest, smallest, or a file arch.json.",
)
_BUCKET = flags.DEFINE_integer(
    "bucket",
    0,
    "The length of the batch's sentences, one of config.data.buckets; the longest by default.",
)
_WIDEST = flags.DEFINE_boolean(
    "widest",
    False,
    "Compile the SuperNet's widest embeddings only: faster, for nearly the same memory.",
)
_SIMULATE = flags.DEFINE_boolean(
    "simulate", False, "Use simulated devices even where the TPU's compiler is at hand."
)
_JSON = flags.DEFINE_string("json", None, "A file for the same numbers as JSON.")

T = TypeVar("T", bound=TrainConfig)

UPDATES = 200  # of the SuperNet, whose sampled architectures give the mean FLOPs


@dataclasses.dataclass(frozen=True)
class Job:
    """A training step and the batch it gets."""

    config: Config
    train: TrainConfig
    spec: Spec
    bucket: int  # tokens of a sentence
    sentences: int  # of an update, over all devices and micro-batches
    configured: int  # micro-batches that the configuration wants

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
        return trained_part(self.config, self.spec)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each device, as the compiler plans them."""

    arguments: int  # parameters, the optimizer's state and the batch
    outputs: int
    reused: int  # of the outputs, in the place of arguments
    temporaries: int
    peak: int


@dataclasses.dataclass(frozen=True)
class Flops:
    """Of an update, over all devices."""

    model: float  # three times the forward pass, the mean over architectures
    largest: float  # the same for the most expensive update
    again: float  # computed a second time to save memory, at most


@dataclasses.dataclass(frozen=True)
class Seconds:
    """A roofline: what each part would take at the chip's peak."""

    compute: float
    memory: float
    links: float

    @property
    def overlapped(self) -> float:
        """If all three go on at the same time."""
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
        """Bytes that a device reads and writes: what the TPU's program says, else every array once
        each way, the least there can be.

        A program for a CPU holds more instructions between which arrays go through memory, and says
        nothing of a chip.
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
    """What a step is compiled for."""

    devices: list[Any]
    backend: str  # of the experts
    platform: str
    compiler: str
    is_estimate: bool


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
    """The step of the SuperNet, or of the architecture alone, on this mesh.

    Where the micro-batches would leave a device less than a sentence, there are as many fewer as
    there are more devices. Raises `UserError` for what the mesh or the architecture does not fit.
    """
    space = config.space
    if config.task != "translate":
        raise UserError(
            f"config.task={config.task!r} cannot be planned: how many classes there are is known"
            " only after the prepare stage"
        )
    if widest:
        if arch:
            raise UserError(
                "--widest is for the SuperNet, and --arch for an architecture alone; give one of"
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
    spec = spec_of(config, config.data.vocab_size, arch=_arch(config, arch) if arch else None)
    rows = rows_per_batch(bucket, train.tokens_per_batch, train.accumulate * parts)
    return Job(config, train, spec, bucket, rows, wanted.accumulate)


def make_plan(job: Job, kind: Chip, simulate: bool = False) -> Plan:
    """Compiles the step and reads off what it needs; raises `UserError` where the TPU's compiler
    says that it does not fit.
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
                f" {_advice(job, kind)}"
            ) from None
        found = hlo.traffic(compiled.as_text(), kind.domain)
    return Plan(
        job,
        kind,
        target.compiler,
        target.is_estimate,
        memory_of(compiled),
        flops_of(job),
        found,
        round(time.perf_counter() - started, 1),
    )


def choose_target(kind: Chip, count: int, simulate: bool) -> Target:
    """So many chips of a TPU slice that is not there, or else simulated devices."""
    shape = slice_shape(kind, count)
    if simulate:
        why = "as told"
    elif not kind.topology:
        why = f"as there is no compiler for a {kind.title} without one"
    elif shape is None:
        why = f"as no slice of {kind.title} has {count} chips"
    elif importlib.util.find_spec("libtpu") is None:
        why = 'as libtpu is not installed (`pip install "jax[tpu]"` brings it)'
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
    """The train step compiled for the job's mesh over these devices; nothing of its size is made
    here.
    """
    placed = placement(job.config, target.devices)
    model = job.config.model
    step: Any = make_train_step(
        job.spec,
        job.train,
        ForwardOptions(model.dropout, model.attention_dropout, model.dtype, remat=job.config.remat),
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
    # LLVM's optimisations take long and change no buffer.
    options = {"xla_backend_optimization_level": 0} if target.platform == "cpu" else {}
    with use_backend(target.backend):
        return step.trace(*arguments).lower(lowering_platforms=(target.platform,)).compile(options)


def memory_of(compiled: Any) -> Memory:
    """What the compiler says of a program's memory on each device."""
    stats = compiled.memory_analysis()
    arguments, outputs, reused = (
        stats.argument_size_in_bytes,
        stats.output_size_in_bytes,
        stats.alias_size_in_bytes,
    )
    peak = arguments + outputs - reused + stats.temp_size_in_bytes
    return Memory(arguments, outputs, reused, stats.temp_size_in_bytes, peak)


def flops_of(job: Job) -> Flops:
    """Of an update: the mean over the architectures of the first `UPDATES` updates, and the most
    that any could have.
    """
    updates = 1 if job.spec.arch is not None else UPDATES
    found = [job.archs(update) for update in range(updates)]
    forward = statistics.fmean(
        sum(_costs(job, arch).flops_with_vocabulary for arch in archs) for archs in found
    )
    again = statistics.fmean(
        sum(_costs(job, arch).flops - _kept(job, arch) for arch in archs) for archs in found
    )
    most = job.spec.arch or job.spec.space.largest()
    largest = len(found[0]) * _costs(job, most).flops_with_vocabulary
    sentences = job.sentences * job.train.passes
    return Flops(3 * sentences * forward, 3 * sentences * largest, sentences * again)


def report(plan: Plan) -> str:
    """The plan for people."""
    job, memory, seconds, flops = plan.job, plan.memory, plan.seconds, plan.flops
    mesh, train = job.config.mesh, job.train
    what = "the SuperNet" if job.spec.arch is None else "one architecture"
    tokens = job.sentences * job.bucket
    lines = [
        f"Training {what} on {job.devices} × {plan.chip.title}: data {mesh.data} × expert"
        f" {mesh.expert} × model {mesh.model}" + (", FSDP" if job.config.fsdp else ""),
        f"compiled in {plan.compile_seconds:.0f} s by {plan.compiler}"
        + ("; all of it is an ESTIMATE" if plan.is_estimate else ""),
        (
            f"an update: {job.sentences:,} sentences of {job.bucket} + {job.bucket} tokens"
            f" ({tokens:,} target tokens), micro-batches: {train.accumulate}, remat:"
            f" {job.config.remat}, {job.config.model.dtype}"
        ),
    ]
    if train.accumulate != job.configured:
        lines.append(
            f"{job.configured} micro-batches, as configured, would leave a device less than a"
            f" sentence: run with --config.supernet.accumulate={train.accumulate}"
            f" --config.retrain.accumulate={train.accumulate}"
        )
    lines += ["", "memory of a device"]
    rows = {
        "arguments": memory.arguments,
        "outputs": memory.outputs,
        "of these reused": memory.reused,
        "temporaries": memory.temporaries,
    }
    lines += [_row(name, size, "B") for name, size in rows.items()]
    lines.append(
        f"{_row('peak', memory.peak, 'B')} of {plan.chip.memory / 1e9:.0f} GB:"
        f" {'fits' if plan.fits else 'DOES NOT FIT'}"
    )
    if not plan.fits:
        lines.append(f"  {_advice(job, plan.chip, memory)}")
    lines += ["", "FLOPs of an update (closed form of automoe_jax.costs; forward pass × 3)"]
    rows = {
        "mean over architectures": flops.model,
        "the largest": flops.largest,
        "computed again to save memory, at most": flops.again,
    }
    lines += [_row(name, value, "FLOP") for name, value in rows.items()]
    lines += [
        "",
        f"{'collectives of an update, on each device':<44}"
        f"{'runs':>6}{'MB of arrays':>14}{'MB sent':>10}",
    ]
    for kind, moved in sorted(plan.traffic.collectives.items()):
        where = "network" if kind.crosses else "links"
        lines.append(
            f"  {f'{kind.name}, over the {where}':<42}{moved.count:>6.0f}"
            f"{moved.payload / 1e6:>14.1f}{moved.sent / 1e6:>10.1f}"
        )
    if not plan.traffic.collectives:
        lines.append("  none")
    if plan.traffic.unknown_loops:
        lines.append(
            f"  {plan.traffic.unknown_loops} loops whose length is data count once, so there may be"
            " more"
        )
    chip, read = (
        plan.chip,
        (
            "temporaries written and read once"
            if plan.is_estimate
            else "as the program's instructions do"
        ),
    )
    lines += [
        "",
        f"time of an update at the chip's peak: a MODEL, not a measurement ({chip.source})",
        (
            f"{_row('compute', seconds.compute, 's')} {chip.flops / 1e12:.0f} TFLOP/s in bfloat16,"
            " shared evenly"
        ),
        f"{_row('memory', seconds.memory, 's')} {chip.bandwidth / 1e9:.0f} GB/s, {read}",
        (
            f"{_row('links', seconds.links, 's')} {chip.link / 1e9:.0f} GB/s, over the network"
            f" {chip.network / 1e9:.1f}"
        ),
        (
            f"{_row('all three at once', seconds.overlapped, 's')}"
            f" {tokens / seconds.overlapped:,.0f} target tokens/s"
        ),
        (
            f"{_row('one after another', seconds.serial, 's')} {tokens / seconds.serial:,.0f}"
            " target tokens/s"
        ),
    ]
    return "\n".join(lines)


def _row(name: str, value: float, unit: str) -> str:
    """A line of a table, the value with three digits and a prefix."""
    for prefix, size in (
        ("T", 1e12),
        ("G", 1e9),
        ("M", 1e6),
        ("k", 1e3),
        ("", 1.0),
        ("m", 1e-3),
        ("µ", 1e-6),
        ("n", 1e-9),
    ):
        if value >= size:
            return f"  {name:<40}{value / size:>8.1f} {prefix}{unit}"
    return f"  {name:<40}{value:>8.0f} {unit}"


def to_json(plan: Plan) -> str:
    """The plan for programs; bytes, FLOPs and seconds."""
    job = plan.job
    record = {
        "chip": dataclasses.asdict(plan.chip),
        "mesh": {axis: getattr(job.config.mesh, axis) for axis in (DATA, EXPERT, MODEL)},
        "devices": job.devices,
        "fsdp": job.config.fsdp,
        "remat": job.config.remat,
        "dtype": job.config.model.dtype,
        "network": "SuperNet" if job.spec.arch is None else job.spec.arch.to_dict(),
        "batch": {
            "sentences": job.sentences,
            "bucket": job.bucket,
            "accumulate": job.train.accumulate,
        },
        "compiler": plan.compiler,
        "is_estimate": plan.is_estimate,
        "compile_seconds": plan.compile_seconds,
        "memory": dataclasses.asdict(plan.memory),
        "fits": plan.fits,
        "flops": dataclasses.asdict(plan.flops),
        "collectives": [
            {**kind._asdict(), **dataclasses.asdict(moved)}
            for kind, moved in sorted(plan.traffic.collectives.items())
        ],
        "memory_traffic": plan.memory_traffic,
        "loops_counted_once": plan.traffic.unknown_loops,
        "seconds": {
            **dataclasses.asdict(plan.seconds),
            "overlapped": plan.seconds.overlapped,
            "serial": plan.seconds.serial,
        },
    }
    return json.dumps(record, indent=1)


def run(argv: list[str]) -> int:
    """Prints the plan of a command line."""
    # Before anything asks for devices: planning takes none, so it also runs where they are busy or
    # missing.
    jax.config.update("jax_platforms", "cpu")
    config, _ = parse(argv)
    kind = chip(_CHIP.value)
    plan = make_plan(
        make_job(config, parse_mesh(_MESH.value), _ARCH.value, _BUCKET.value, _WIDEST.value),
        kind,
        _SIMULATE.value,
    )
    print(report(plan))
    if _JSON.value:
        with atomic_writer(_JSON.value) as file:
            file.write(to_json(plan).encode())
    return 0


def _fitting(train: T, longest: int, parts: int) -> T:
    """With micro-batches that leave every device a sentence: as many fewer as there are more
    devices, if need be.
    """
    if train.tokens_per_batch >= longest * train.accumulate * parts:
        return train
    return dataclasses.replace(train, accumulate=max(1, train.accumulate // parts))


def _arch(config: Config, name: str) -> Arch:
    ends = {"largest": config.space.largest, "smallest": config.space.smallest}
    return ends[name]() if name in ends else read_arch(name)


def _slice(kind: Chip, shape: Sequence[int]) -> list[Any]:
    """The chips of a slice that only the compiler knows."""
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
    """Of one sentence pair of the batch, in a forward pass."""
    return costs(
        arch,
        job.bucket,
        job.bucket,
        job.spec.vocab_size,
        router=job.config.router.costs(arch),
        pre_norm=job.spec.norm == "pre",
    )


def _kept(job: Job, arch: Arch) -> float:
    """Forward FLOPs of a sentence that the backward pass does not compute again: of layers that
    every architecture has.
    """
    if job.config.remat != "none":
        return 0
    if job.spec.arch is not None:
        return _costs(job, arch).flops
    record = arch.to_dict()
    for side in ("encoder", "decoder"):
        record[side]["layers"] = record[side]["layers"][: job.spec.least_layers(side)]
    return _costs(job, Arch.from_dict(record)).flops


def _advice(job: Job, kind: Chip, memory: Memory | None = None) -> str:
    """What to change where the memory does not suffice."""
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


@contextmanager
def _progress(title: str) -> Iterator[None]:
    """Shows on stderr that time goes by."""
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
