"""Experts of a layer, forward and backward, against a dense feed-forward network of the same useful
FLOPs.

python -m benchmarks.experts --json=experts.json
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.ops.grouped import ExpertRows, Experts, dense_ffn, experts_ffn, width_choices
from automoe_jax.ops.routers import Routing
from benchmarks.harness import Row, medians, run, timed_parser

MIXED = (1024, 2048, 3072)
# of the tokens, for each expert: unbalanced
SHARES = (0.30, 0.20, 0.15, 0.12, 0.10, 0.07, 0.04, 0.02)
LIMITS = {
    "cpu": (4096, "float32", 1.25),
    "gpu": (65_536, "bfloat16", 1.3),
    "tpu": (65_536, "bfloat16", 1.3),
}
EMBED_DIM = 512
WIDTHS = {"mixed": "mixed", "all wide": "all 2048", "narrow": "all 1024"}


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times experts of equal and of different widths."""
    tokens, dtype, limit = LIMITS[jax.default_backend()]
    same = (2048,) * len(SHARES)
    mixed = tuple(MIXED[i % 3] for i in range(len(SHARES)))
    narrow = tuple(MIXED[0] for _ in SHARES)
    cases: dict[str, Any] = {}
    useful = {}
    for name, widths, choices in (
        ("equal", same, (2048,)),
        ("mixed", mixed, MIXED),
        ("all wide", same, MIXED),
        ("narrow", narrow, MIXED),
    ):
        cases[name], units = _experts(tokens, dtype, widths, choices)
        useful[name] = tokens * units
        cases[f"dense {name}"] = _dense(tokens, dtype, round(units))
    seconds = medians(cases, flags.repeats, title="experts")
    ratio = seconds["equal"] / seconds["dense equal"]
    sizes = f"N = {tokens}, D = {EMBED_DIM}, E = {len(SHARES)}, unbalanced, {dtype}"
    per_unit = {name: seconds[name] / useful[name] for name in useful if name != "equal"}
    variation = max(per_unit.values()) / min(per_unit.values()) - 1
    return [
        Row(
            f"Experts against a dense FFN, forward and backward (F = 2048, {sizes})",
            {
                "experts ms": f"{seconds['equal'] * 1e3:.0f}",
                "dense ms": f"{seconds['dense equal'] * 1e3:.0f}",
                "experts / dense": f"{ratio:.2f}",
            },
            f"≤ {limit}",
            ratio <= limit,
            {"ratio": ratio, "seconds": seconds["equal"]},
        ),
        *(_width_row(name, title, seconds, sizes) for name, title in WIDTHS.items()),
        Row(
            "Time per token and hidden unit across these three",
            {"largest / smallest − 1": f"{variation:.0%}"},
            "≤ 15%",
            variation <= 0.15,
            {
                "spread": variation,
                **{f"per_unit_{name}": value for name, value in per_unit.items()},
            },
        ),
    ]


def _width_row(name: str, title: str, seconds: dict[str, float], sizes: str) -> Row:
    ratio = seconds[name] / seconds[f"dense {name}"]
    return Row(
        f"Experts of a SuperNet with widths 1024, 2048 and 3072 ({sizes})",
        {"widths": title, "experts / dense": f"{ratio:.2f}"},
        figures={"ratio": ratio},
    )


def _experts(
    tokens: int, dtype: str, widths: tuple[int, ...], choices: tuple[int, ...]
) -> tuple[Any, float]:
    """A call for values and gradients of the experts, and the mean hidden units per token."""
    rng, max_widths, count = np.random.default_rng(0), max(choices), len(widths)
    shapes = (
        (max_widths * count, EMBED_DIM),
        (max_widths * count,),
        (max_widths * count, EMBED_DIM),
        (count, EMBED_DIM),
    )
    experts = Experts(*(jnp.asarray(rng.normal(0, 0.05, shape), dtype) for shape in shapes))
    x = jnp.asarray(rng.normal(size=(tokens, EMBED_DIM)), dtype)
    chosen = rng.choice(count, (tokens, 1), p=SHARES).astype(np.int32)
    starts = np.arange(count) * max_widths
    routing = Routing(jnp.asarray(chosen), jnp.ones((tokens, 1)), jnp.zeros((tokens, count)))

    def loss(x: jax.Array, experts: Experts, own: jax.Array) -> jax.Array:
        y = experts_ffn(x, routing, experts, ExpertRows(starts, own), width_choices(choices))
        return jnp.sum(y.astype(jnp.float32) ** 2)

    call = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    own = jnp.asarray(widths, jnp.int32)
    return (lambda: call(x, experts, own)), float(np.mean(np.asarray(widths)[chosen]))


def _dense(tokens: int, dtype: str, units: int) -> Any:
    rng = np.random.default_rng(0)
    shapes = ((units, EMBED_DIM), (units,), (units, EMBED_DIM), (1, EMBED_DIM))
    experts = Experts(*(jnp.asarray(rng.normal(0, 0.05, shape), dtype) for shape in shapes))
    x = jnp.asarray(rng.normal(size=(tokens, EMBED_DIM)), dtype)
    call = jax.jit(
        jax.value_and_grad(
            lambda x, experts: jnp.sum(dense_ffn(x, experts).astype(jnp.float32) ** 2),
            argnums=(0, 1),
        )
    )
    return lambda: call(x, experts)


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.experts", __doc__))
