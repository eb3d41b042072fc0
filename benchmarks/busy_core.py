"""Ratio of two models' latencies by two clocks and several quantiles, on a quiet and a busy core.

python -m benchmarks.busy_core

The models are the smallest and the largest dense architecture of configs/demo.py, timed as the
search times finalists. On the busy core another process computes all the time. The spread is the
largest ratio over the smallest of the repeated measurements.
"""

import argparse
import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator

import numpy as np

from automoe_jax.config import from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.latency.device import conditions_of, settings_of
from automoe_jax.latency.search import ROUNDS
from automoe_jax.latency.timing import Clock, build, seconds_of
from automoe_jax.registry import import_file
from benchmarks.harness import Row, run, timed_parser

DEMO = "configs/demo.py"
MANY = 500  # rounds: a second or more, as in the measurements that decide
CLOCKS: dict[Clock, str] = {"perf_counter": "passed", "thread_time": "of the processor"}
QUANTILES = {"minimum": 0.0, "lower quartile": 0.25, "median": 0.5}


def measure(flags: argparse.Namespace) -> list[Row]:
    """The ratio by each clock and quantile, `--repeats` times on the quiet and on the busy core."""
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("benchmarks.busy_core binds processes to a core, which needs Linux")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    config = from_config_dict(import_file(DEMO)["get_config"]())
    settings = settings_of(config, config.data.vocab_size)
    archs = (config.space.smallest(), config.space.largest_dense())
    models = [build(arch, settings, conditions_of(config)) for arch in archs]
    rows = []
    for name, core in (("quiet", contextlib.nullcontext), ("busy", _competitor)):
        with core():
            for rounds in (ROUNDS, MANY):
                for clock, title in CLOCKS.items():
                    measured = [seconds_of(models, rounds, clock) for _ in range(flags.repeats)]
                    rows += [_row(name, title, one, np.array(measured)) for one in QUANTILES]
    return rows


@contextlib.contextmanager
def _competitor() -> Iterator[None]:
    """A process on the same core that computes all the time."""
    process = multiprocessing.get_context("spawn").Process(target=_compute, daemon=True)
    process.start()
    time.sleep(1)  # until it computes
    try:
        yield
    finally:
        process.kill()
        process.join()


def _compute() -> None:
    while True:
        pass


def _row(core: str, clock: str, quantile: str, times: np.ndarray) -> Row:
    """times: seconds [repeats, models, rounds]."""
    found = 1000 * np.quantile(times, QUANTILES[quantile], axis=2)
    ratios = found[:, 0] / found[:, 1]
    figures = {"ratio": float(np.median(ratios)), "spread": float(ratios.max() / ratios.min())}
    cells = {
        "core": core,
        "rounds": str(times.shape[-1]),
        "time": clock,
        "of a batch": quantile,
        "smallest, ms": f"{np.median(found[:, 0]):.2f}",
        "largest dense, ms": f"{np.median(found[:, 1]):.2f}",
        "ratio": f"{figures['ratio']:.3f}",
        "spread": f"{figures['spread']:.2f}",
    }
    return Row("Two latencies on a core that another process uses", cells, figures=figures)


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.busy_core", __doc__))
