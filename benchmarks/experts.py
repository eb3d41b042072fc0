"""Experts of a layer, forward and backward, against a dense feed-forward network of the same useful
FLOPs.

python -m benchmarks.experts --json=experts.json
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.ops.grouped import ExpertRows, Experts, dense_ffn, experts_ffn, width_choices
from benchmarks.harness import Row, medians, run

MIXED = (1024, 2048, 3072)
# of the tokens, for each expert: unbalanced
SHARES = (0.30, 0.20, 0.15, 0.12, 0.10, 0.07, 0.04, 0.02)
LIMITS = {
    "cpu": (4096, "float32", 1.25),
    "gpu": (65_536, "bfloat16", 1.3),
    "tpu": (65_536, "bfloat16", 1.3),
}
EMBED_DIM = 512


def measure() -> list[Row]:
    """Rows of docs/BENCHMARKS.md."""
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
    seconds = medians(cases, title="experts")
    ratio = seconds["equal"] / seconds["dense equal"]
    rows = [
        Row(
            f"experts forward and backward, N = {tokens}, D = 512, F = 2048, E = 8, unbalanced,"
            f" against a dense FFN, {dtype}",
            f"{ratio:.2f} × ({seconds['equal'] * 1e3:.0f} ms against"
            f" {seconds['dense equal'] * 1e3:.0f})",
            f"≤ {limit} ×",
            ratio <= limit,
            {"ratio": ratio, "seconds": seconds["equal"]},
        )
    ]
    per_unit = {name: seconds[name] / useful[name] for name in useful if name != "equal"}
    spread = max(per_unit.values()) / min(per_unit.values()) - 1
    against = ", ".join(
        f"{name} {seconds[name] / seconds[f'dense {name}']:.2f} ×" for name in per_unit
    )
    rows.append(
        Row(
            "the same with widths 1024, 2048 and 3072 mixed: time for each token · unit",
            f"{spread:.0%} between mixed, all 2048 and all 1024; against dense: {against}",
            "within 15 % of proportional",
            spread <= 0.15,
            {"spread": spread, **{f"per_unit_{name}": value for name, value in per_unit.items()}},
        )
    )
    return rows


def _experts(
    tokens: int, dtype: str, widths: tuple[int, ...], choices: tuple[int, ...]
) -> tuple[Any, float]:
    """(values and gradients of the experts, the mean units a token passes through)."""
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
    gates, starts = jnp.ones((tokens, 1)), np.arange(count) * max_widths

    def loss(x: jax.Array, experts: Experts, own: jax.Array) -> jax.Array:
        y = experts_ffn(
            x, jnp.asarray(chosen), gates, experts, ExpertRows(starts, own), width_choices(choices)
        )
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
    run(measure)
