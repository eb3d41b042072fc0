"""Freed memory that stays with the process: a training step with and without.

python -m benchmarks.memory --json=memory.json

The step of `dense` in configs/systems.py, with sentences of 24 tokens. Both ways run in processes
of their own, in turn, since glibc cannot return to its defaults.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from automoe_jax.command.configuration import ConfigFile, read_config
from automoe_jax.model import init
from automoe_jax.model.transformer import training_options
from automoe_jax.runtime.memory import keep_freed_memory
from automoe_jax.train.step import init_state, make_train_step
from benchmarks.harness import Row, run, timed_parser

CONFIG, LENGTH = "configs/systems.py:dense", 24
MODES = ("returned", "kept")
ROUNDS = 3  # processes of each mode


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times the step both ways, or one way in this process and prints the result as JSON."""
    if flags.mode:
        print(json.dumps(_timed(flags.mode, flags.repeats)))
        return []
    steps: dict[str, list[list[float]]] = {mode: [] for mode in MODES}
    for mode in tqdm(MODES * ROUNDS, desc="processes", file=sys.stderr, leave=False):
        command = [sys.executable, "-m", "benchmarks.memory", f"--mode={mode}"]
        command.append(f"--repeats={flags.repeats}")
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        steps[mode] += json.loads(ran.stdout)
    medians = {mode: np.median(measured, axis=0) for mode, measured in steps.items()}
    return [_row(mode, medians[mode], medians["returned"]) for mode in MODES]


def _timed(mode: str, repeats: int) -> list[tuple[float, int]]:
    """Seconds and new pages of each step but the first two."""
    if mode == "kept":
        keep_freed_memory()
    step, (state, *rest) = _step()
    measured = []
    for _ in range(2 + repeats):
        before, started = _new_pages(), time.perf_counter()
        state, _ = jax.block_until_ready(step(state, *rest))
        measured.append((time.perf_counter() - started, _new_pages() - before))
    return measured[2:]


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


def _new_pages() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _row(mode: str, median: np.ndarray, returned: np.ndarray) -> Row:
    seconds, pages = (float(value) for value in median)
    cells = {
        "freed memory": mode,
        "seconds": f"{seconds:.3f}",
        "relative": f"{seconds / returned[0]:.2f}",
        "new pages": f"{pages:.0f}",
    }
    title = "Training step, freed memory returned to the system or kept"
    return Row(title, cells, figures={"seconds": seconds, "pages": pages})


if __name__ == "__main__":
    arguments = timed_parser("benchmarks.memory", __doc__)
    arguments.add_argument("--mode", choices=MODES, help="measure in this process, print JSON")
    run(measure, arguments)
