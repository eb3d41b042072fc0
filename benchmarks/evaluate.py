"""Candidates of the fixed job scored by the SuperNet.

python -m benchmarks.evaluate --json=evaluate.json
"""

import argparse
import statistics
from typing import Any

import jax

from automoe_jax.model import ForwardOptions, init
from automoe_jax.model.transformer import shift_right, states_at
from automoe_jax.ops.vocabulary import project
from automoe_jax.search import evaluator
from automoe_jax.search.stopping import Trial
from automoe_jax.train.step import make_eval_step
from benchmarks import job
from benchmarks.harness import Row, medians, products, rates, run, timed_parser


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times the evaluation of candidates of the fixed job."""
    candidates, (largest,), dense = (
        job.archs("evaluate"),
        job.archs("largest"),
        job.SPACE.largest_dense(),
    )
    supernet = init(job.SPACE, job.VOCAB_SIZE, jax.random.key(0))
    exact = init(job.SPACE, job.VOCAB_SIZE, jax.random.key(0), arch=dense)
    batch = job.batch()

    def forward(params: dict[str, Any]) -> jax.Array:
        states = states_at(
            type(exact)(params, exact.spec),
            exact.spec.widths,
            dense,
            batch["source"],
            shift_right(batch["target"], 1),
        )
        return project(states.hidden, params["embedding"]["table"])

    plain, flops = products(forward, exact.params)
    # One part, because the original's job is one batch; no cache of encoders, because the job's
    # candidates share none.
    score = evaluator.scorer(
        supernet,
        ForwardOptions(),
        [jax.device_get(batch)],
        batch["target"].size,
        0.0,
        least_parts=1,
        memory_bytes=0,
    )
    exact_step = make_eval_step(exact.spec, ForwardOptions())
    cases: dict[str, Any] = {
        "plain products": plain,
        "largest": lambda: list(score([Trial(largest)])),
        "largest dense, cut out": lambda: exact_step(exact.params, batch, dense),
    }
    cases["candidates"] = lambda: list(score([Trial(arch) for arch in candidates]))
    seconds = medians(cases, flags.repeats, title="evaluate")
    rate = len(candidates) / seconds["candidates"]
    original = 1 / statistics.mean(job.ORIGINAL["evaluate_random_median_s"])
    return [
        *rates("Evaluation of the largest architecture", seconds, flops),
        Row(
            f"Candidates against the original (timed on another machine): {len(candidates)} random"
            " architectures, 2048 target tokens each",
            {
                "candidates/s": f"{rate:.1f}",
                "original's": f"{original:.1f}",
                "speed-up": f"{rate / original:.2f}",
            },
            "≥ 2.5",
            rate >= 2.5 * original,
            {"candidates_per_second": rate, "speedup": rate / original},
        ),
    ]


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.evaluate", __doc__))
