"""A training step of the fixed job: against plain matrix products, against FLOPs, against the
original.

python -m benchmarks.step --json=step.json
"""

import argparse
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from automoe_jax.arch import Arch
from automoe_jax.config import TrainConfig
from automoe_jax.costs import costs
from automoe_jax.model import ForwardOptions, Network, init
from automoe_jax.runtime.memory import keep_freed_memory
from automoe_jax.train.step import Batch, gradients_of, init_state, make_train_step
from benchmarks import job
from benchmarks.harness import Row, medians, products, rates, run, timed_parser

TRAIN = TrainConfig()
DROPOUT_RATES = ForwardOptions(job.DROPOUT, job.ATTENTION_DROPOUT)
KEY = jax.random.key(1, impl="rbg")


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times training steps of the fixed job."""
    keep_freed_memory()
    sampled, (largest,), dense = (
        job.archs("train_step"),
        job.archs("largest"),
        job.SPACE.largest_dense(),
    )
    batch = {side: array[None] for side, array in job.batch().items()}
    supernet = init(job.SPACE, job.VOCAB_SIZE, jax.random.key(0))
    exact = init(job.SPACE, job.VOCAB_SIZE, jax.random.key(0), arch=dense)
    plain, flops = products(
        lambda params: _gradients(Network(params, exact.spec), batch, job.stacked(dense), KEY),
        exact.params,
    )

    step, exact_step = _Stepper(supernet, batch), _Stepper(exact, batch)
    cases: dict[str, Any] = {
        "plain products": plain,
        "largest dense, cut out": lambda: exact_step(dense),
        "largest": lambda: step(largest),
    }
    cases |= {f"sampled {i}": lambda arch=arch: step(arch) for i, arch in enumerate(sampled)}
    seconds = medians(cases, flags.repeats, title="train step")
    random = statistics.median(seconds[f"sampled {i}"] for i in range(len(sampled)))
    return [
        *rates("Training step of the largest architecture", seconds, flops),
        _against_original("random, median", random, job.ORIGINAL["train_step_random_median_s"]),
        _against_original(
            "largest", seconds["largest"], job.ORIGINAL["train_step_largest_median_s"]
        ),
        _proportion(supernet, batch, [*sampled, largest], flags.repeats),
    ]


def _against_original(architecture: str, seconds: float, original: list[float]) -> Row:
    ratio = statistics.mean(original) / seconds
    return Row(
        "Training step against the original (timed on another machine)",
        {
            "architecture": architecture,
            "seconds": f"{seconds:.2f}",
            "original's seconds": f"{original[0]}–{original[1]}",
            "speed-up": f"{ratio:.2f}",
        },
        "≥ 2",
        ratio >= 2,
        {"seconds": seconds, "speedup": ratio},
    )


def _proportion(network: Network, batch: Batch, archs: list[Arch], repeats: int) -> Row:
    """Time of forward and backward against FLOPs."""
    traces = 0

    def counted(params: dict[str, Any], batch: Batch, arch: Arch) -> Any:
        nonlocal traces
        traces += 1
        return _gradients(Network(params, network.spec), batch, arch, KEY)

    call = jax.jit(counted)
    cases = {
        str(i): lambda arch=arch: call(network.params, batch, job.stacked(arch))
        for i, arch in enumerate(archs)
    }
    seconds = np.array(list(medians(cases, repeats, title="forward and backward").values()))
    flops = np.array(
        [
            costs(arch, job.LENGTH, job.LENGTH, job.VOCAB_SIZE).flops_with_vocabulary
            for arch in archs
        ]
    )
    least, most = np.argmin(flops), np.argmax(flops)
    time_ratio, flops_ratio = seconds[least] / seconds[most], flops[least] / flops[most]
    rank = float(spearmanr(flops, seconds).statistic)
    figures = {
        "time_ratio": float(time_ratio),
        "flops_ratio": float(flops_ratio),
        "rank_correlation": rank,
        "traces": float(traces),
    }
    return Row(
        f"SuperNet, forward and backward: time follows FLOPs ({len(archs)} architectures)",
        {
            "time, smallest / largest": f"{time_ratio:.2f}",
            "FLOPs, smallest / largest": f"{flops_ratio:.2f}",
            "rank correlation": f"{rank:.2f}",
            "traces": str(traces),
        },
        "time ≤ FLOPs + 0.15, rank correlation ≥ 0.9, 1 trace",
        bool(time_ratio <= flops_ratio + 0.15 and rank >= 0.9 and traces == 1),
        figures,
    )


def _gradients(network: Network, batch: Batch, archs: Arch, key: jax.Array) -> Any:
    return gradients_of(network, batch, archs, key, TRAIN, DROPOUT_RATES)


class _Stepper:
    """The jitted update with its state; each call replaces the state."""

    def __init__(self, network: Network, batch: Batch) -> None:
        self._state = init_state(jax.tree.map(jnp.copy, network), TRAIN)
        self._step, self._batch = make_train_step(network.spec, TRAIN, DROPOUT_RATES), batch

    def __call__(self, arch: Arch) -> Any:
        self._state, metrics = self._step(self._state, self._batch, job.stacked(arch), KEY)
        return self._state, metrics


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.step", __doc__))
