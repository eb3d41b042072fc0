"""Freed memory that stays with the process: a training step with and without.

python -m benchmarks.memory --json=memory.json

The step of `dense` in configs/systems.py, with sentences of 24 tokens. Without, the thresholds of
the C library are set to their initial values between the calls, which turns off their adaptation;
both are timed in turn.
"""

import argparse
import ctypes
import resource
import statistics
import time
from typing import Any

import jax
import numpy as np

from automoe_jax.command.configuration import ConfigFile, read_config
from automoe_jax.latency.timing import in_turn
from automoe_jax.model import init
from automoe_jax.model.transformer import training_options
from automoe_jax.runtime.memory import keep_freed_memory
from automoe_jax.train.step import init_state, make_train_step
from benchmarks.harness import Row, run, timed_parser

CONFIG, LENGTH = "configs/systems.py:dense", 24
# M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_MMAP_MAX of mallopt(3), and their defaults
DEFAULTS = {-1: 128 << 10, -3: 128 << 10, -4: 65536}


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times the step both ways."""
    step, arguments = _step()
    state, *rest = arguments
    modes = {"returned": _return_freed_memory, "kept": keep_freed_memory}
    seconds: dict[str, list[float]] = {mode: [] for mode in modes}
    pages: dict[str, list[int]] = {mode: [] for mode in modes}
    for number in range(flags.repeats + 1):
        for index in in_turn(len(modes), number):
            mode = list(modes)[index]
            modes[mode]()
            for measured in (False, True):  # the first call meets the memory as the other left it
                before, started = _new_pages(), time.perf_counter()
                state, _ = jax.block_until_ready(step(state, *rest))
                if measured and number:
                    seconds[mode].append(time.perf_counter() - started)
                    pages[mode].append(_new_pages() - before)
    medians = {mode: statistics.median(times) for mode, times in seconds.items()}
    return [_row(mode, medians, statistics.median(pages[mode])) for mode in modes]


def _step() -> tuple[Any, tuple[Any, ...]]:
    """The compiled update and its arguments, the state first."""
    config = read_config(ConfigFile.parse(CONFIG), [])
    train, arch, vocab_size = (
        config.retrain,
        config.space.largest_dense(),
        config.data.vocab_size,
    )
    network = init(config.space, vocab_size, jax.random.key(0), arch=arch)
    rng, shape = np.random.default_rng(0), (1, train.tokens_per_batch // LENGTH, LENGTH)
    batch = {
        side: jax.device_put(rng.integers(4, vocab_size, shape).astype(np.int32))
        for side in ("source", "target")
    }
    step = make_train_step(network.spec, train, training_options(config))
    archs = jax.tree.map(lambda field: np.stack([field]), arch)
    return step, (init_state(network, train), batch, archs, jax.random.key(1, impl="rbg"))


def _return_freed_memory() -> None:
    libc = ctypes.CDLL(None)
    for option, value in DEFAULTS.items():
        libc.mallopt(option, value)
    libc.malloc_trim(0)


def _new_pages() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _row(mode: str, seconds: dict[str, float], pages: float) -> Row:
    cells = {
        "freed memory": mode,
        "seconds": f"{seconds[mode]:.3f}",
        "relative": f"{seconds[mode] / seconds['returned']:.2f}",
        "new pages": f"{pages:.0f}",
    }
    return Row(
        "Training step, freed memory returned to the system or kept",
        cells,
        figures={"seconds": seconds[mode], "pages": pages},
    )


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.memory", __doc__))
