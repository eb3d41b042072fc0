"""Parts of a training step of the fixed job: how much of its time are matrix products, and how much
faster it could be at most.

python -m benchmarks.parts --json=parts.json

Profiles the step of the largest architecture, in the SuperNet and at its own shapes, and times
plain products of the same shapes between the profiles. A step whose products ran at the plain rate,
and whose other operations took no time, would be faster by the bound.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from automoe_jax.model import Network, init
from automoe_jax.plan import hlo
from automoe_jax.runtime.memory import keep_freed_memory
from automoe_jax.train.step import gradients_of, init_state, make_train_step
from benchmarks import job
from benchmarks.harness import Row, products, run, timed_parser, timings
from benchmarks.step import DROPOUT_RATES, KEY, TRAIN

TITLE = "Training step of the largest architecture: parts of its time"
PRODUCTS, OTHERS = "products", "other operations"
# instructions that only contain others, whose time the profile counts again
CONTAINERS = ("while", "conditional", "call")


def measure(flags: argparse.Namespace) -> list[Row]:
    """Profiles both programs and times the plain products."""
    keep_freed_memory()
    (largest,), dense = job.archs("largest"), job.SPACE.largest_dense()
    batch = {side: array[None] for side, array in job.batch().items()}
    supernet = init(job.SPACE, job.VOCAB_SIZE, jax.random.key(0))
    exact = init(job.SPACE, job.VOCAB_SIZE, jax.random.key(0), arch=dense)

    def gradients(params: dict[str, Any]) -> Any:
        network = Network(params, exact.spec)
        return gradients_of(network, batch, job.stacked(dense), KEY, TRAIN, DROPOUT_RATES)

    plain, _ = products(gradients, exact.params)
    seconds = statistics.median(timings({"": plain}, flags.repeats, "plain products")[""])
    programs = {"in the SuperNet": (supernet, largest), "dense, at its own shapes": (exact, dense)}
    return [
        _row(program, parts(*_step(network, batch, job.stacked(arch)), flags.repeats), seconds)
        for program, (network, arch) in programs.items()
    ]


def _step(network: Network, batch: Any, archs: Any) -> tuple[Any, tuple[Any, ...]]:
    """The compiled update and its arguments, the state first."""
    step: Any = make_train_step(network.spec, TRAIN, DROPOUT_RATES)
    arguments = init_state(network, TRAIN), batch, archs, KEY
    return step.lower(*arguments).compile(), arguments


def parts(program: Any, arguments: tuple[Any, ...], repeats: int) -> dict[str, float]:
    """Seconds of one call of a compiled update by kind of operation, the median of `repeats`
    profiles.
    """
    state, *rest = arguments
    kinds = kinds_of(program.as_text())
    state, _ = jax.block_until_ready(program(state, *rest))
    measured: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                state, _ = jax.block_until_ready(program(state, *rest))
            for kind, seconds in _profiled(Path(folder), kinds).items():
                measured[kind].append(seconds)
    return {kind: statistics.median(seconds) for kind, seconds in measured.items()}


def kinds_of(program: str) -> dict[str, str]:
    """The kind of each instruction of a compiled program's text, by name; none of containers."""
    _, computations = hlo.parse(program)

    def multiplies(one: hlo.Instruction) -> bool:
        inner = (part for name in hlo.called(one.attributes) for part in computations[name])
        return one.opcode == "dot" or any(part.opcode == "dot" for part in inner)

    return {
        one.name: PRODUCTS if multiplies(one) else OTHERS
        for computation in computations.values()
        for one in computation
        if one.opcode not in CONTAINERS
    }


def _profiled(folder: Path, kinds: Mapping[str, str]) -> dict[str, float]:
    """Seconds by kind in the only profile in a folder."""
    (file,) = folder.rglob("*.xplane.pb")
    seconds: dict[str, float] = defaultdict(float)
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            for event in line.events:
                if event.name in kinds and "hlo_op" in dict(event.stats):
                    seconds[kinds[event.name]] += event.duration_ns / 1e9
    return seconds


def _row(program: str, seconds: Mapping[str, float], plain: float) -> Row:
    total = sum(seconds.values())
    free, bound = total / seconds[PRODUCTS], total / plain
    cells = {
        "program": program,
        "all operations": f"{total:.2f} s",
        "products": f"{seconds[PRODUCTS]:.2f} s ({seconds[PRODUCTS] / total:.0%})",
        "plain products": f"{plain:.2f} s",
        "faster at most, with these products": f"{free:.2f} ×",
        "with plain products": f"{bound:.2f} ×",
    }
    figures = {**seconds, "plain": plain, "free": free, "bound": bound}
    return Row(TITLE, cells, figures=figures)


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.parts", __doc__))
