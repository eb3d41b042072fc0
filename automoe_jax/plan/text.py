"""A plan as text for people and as JSON for programs."""

import dataclasses
import json

from automoe_jax.plan.estimate import Plan, advice
from automoe_jax.runtime.sharding import DATA, EXPERT, MODEL


def report(plan: Plan) -> str:
    """The plan as text."""
    parts = (_heading, _memory, _flops, _collectives, _time)
    return "\n\n".join("\n".join(part(plan)) for part in parts)


def _heading(plan: Plan) -> list[str]:
    job = plan.job
    mesh, train = job.config.mesh, job.train
    what = "the SuperNet" if job.spec.arch is None else "one architecture"
    lines = [
        f"Training {what} on {job.devices} × {plan.chip.title}: data {mesh.data} × expert"
        f" {mesh.expert} × model {mesh.model}" + (", FSDP" if job.config.fsdp else ""),
        f"compiled in {plan.compile_seconds:.0f} s by {plan.compiler}"
        + ("; all of it is an ESTIMATE" if plan.is_estimate else ""),
        f"an update: {job.sentences:,} sentences of {job.bucket} + {job.bucket} tokens"
        f" ({_tokens(plan):,} target tokens), micro-batches: {train.accumulate}, remat:"
        f" {job.config.remat}, {job.config.model.dtype}",
    ]
    if train.accumulate != job.configured:
        lines.append(
            f"{job.configured} micro-batches, as configured, would leave a device less than a"
            f" sentence: run with --config.supernet.accumulate={train.accumulate}"
            f" --config.retrain.accumulate={train.accumulate}"
        )
    return lines


def _memory(plan: Plan) -> list[str]:
    memory = plan.memory
    lines = [
        "memory of a device",
        _row("arguments", memory.arguments, "B"),
        _row("outputs", memory.outputs, "B"),
        _row("of these reused", memory.reused, "B"),
        _row("temporaries", memory.temporaries, "B"),
        f"{_row('peak', memory.peak, 'B')} of {plan.chip.memory / 1e9:.0f} GB:"
        f" {'fits' if plan.fits else 'DOES NOT FIT'}",
    ]
    return lines if plan.fits else [*lines, f"  {advice(plan.job, plan.chip, memory)}"]


def _flops(plan: Plan) -> list[str]:
    return [
        "FLOPs of an update (closed form of automoe_jax.costs; forward pass × 3)",
        _row("mean over architectures", plan.flops.model, "FLOP"),
        _row("the largest", plan.flops.largest, "FLOP"),
        _row("computed again to save memory, at most", plan.flops.again, "FLOP"),
    ]


def _collectives(plan: Plan) -> list[str]:
    title = "collectives of an update, on each device"
    lines = [f"{title:<44}{'runs':>6}{'MB of arrays':>14}{'MB sent':>10}"]
    for kind, moved in sorted(plan.traffic.collectives.items()):
        name = f"{kind.name}, over the {'network' if kind.crosses else 'links'}"
        sizes = f"{moved.payload / 1e6:>14.1f}{moved.sent / 1e6:>10.1f}"
        lines.append(f"  {name:<42}{moved.count:>6.0f}{sizes}")
    if not plan.traffic.collectives:
        lines.append("  none")
    if plan.traffic.unknown_loops:
        lines.append(
            f"  {plan.traffic.unknown_loops} loops whose length is data count once, so there may be"
            " more"
        )
    return lines


def _time(plan: Plan) -> list[str]:
    chip, seconds, tokens = plan.chip, plan.seconds, _tokens(plan)
    read = "as the program's instructions do"
    if plan.is_estimate:
        read = "temporaries written and read once"
    return [
        f"time of an update at the chip's peak: a MODEL, not a measurement ({chip.source})",
        f"{_row('compute', seconds.compute, 's')} {chip.flops / 1e12:.0f} TFLOP/s in bfloat16,"
        " shared evenly",
        f"{_row('memory', seconds.memory, 's')} {chip.bandwidth / 1e9:.0f} GB/s, {read}",
        f"{_row('links', seconds.links, 's')} {chip.link / 1e9:.0f} GB/s, over the network"
        f" {chip.network / 1e9:.1f}",
        f"{_row('all three at once', seconds.overlapped, 's')}"
        f" {tokens / seconds.overlapped:,.0f} target tokens/s",
        f"{_row('one after another', seconds.serial, 's')}"
        f" {tokens / seconds.serial:,.0f} target tokens/s",
    ]


def _tokens(plan: Plan) -> int:
    """Target tokens of an update."""
    return plan.job.sentences * plan.job.bucket


def to_json(plan: Plan) -> str:
    """The plan as JSON; bytes, FLOPs and seconds."""
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
