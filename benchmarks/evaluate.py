"""Candidates of the fixed job scored by the SuperNet.

python -m benchmarks.evaluate --json=evaluate.json
"""

import statistics
from typing import Any

import jax

from automoe_jax.model import ForwardOptions, init
from automoe_jax.model.transformer import states_at
from automoe_jax.ops.vocabulary import project
from automoe_jax.search import evaluator
from automoe_jax.search.stopping import Trial
from automoe_jax.train.step import make_eval_step, shift_right
from benchmarks import job
from benchmarks.harness import Row, medians, products, run


def measure() -> list[Row]:
    """Rows of docs/BENCHMARKS.md."""
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
    # In one part, as the original's job is one batch; no encoder is kept, as the candidates of the
    # job share none.
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
    seconds = medians(cases, title="evaluate")
    rate = len(candidates) / seconds["candidates"]
    original = 1 / statistics.mean(job.ORIGINAL["evaluate_random_median_s"])
    share, exact_share = (
        seconds["plain products"] / seconds[name] for name in ("largest", "largest dense, cut out")
    )
    return [
        Row(
            "share of the rate of plain matrix products, evaluation of the largest architecture",
            f"{share:.0%} in the SuperNet, {exact_share:.0%} dense at its own shapes"
            f" ({flops / seconds['plain products'] / 1e9:.0f} GFLOP/s plain)",
            "≥ 60 %",
            share >= 0.6,
            {"supernet": share, "exact": exact_share},
        ),
        Row(
            "candidate evaluation, 30 random architectures, 2048 target tokens each",
            f"{rate:.1f} a second, {rate / original:.2f} × the original's {original:.1f} on another"
            " machine",
            "2.5 × the original",
            rate >= 2.5 * original,
            {"candidates_per_second": rate, "speedup": rate / original},
        ),
    ]


if __name__ == "__main__":
    run(measure)
