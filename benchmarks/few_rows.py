"""Products of a decoding step, with few rows: experts that are sorted or all applied, and weights
stored by rows or by columns.

python -m benchmarks.few_rows --json=few_rows.json
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.ops.grouped import ExpertRows, Experts, experts_ffn, width_choices
from automoe_jax.ops.grouped.backends import choose
from automoe_jax.ops.grouped.few_rows import few_rows_ffn
from automoe_jax.ops.routers import Routing
from benchmarks.harness import Row, medians, run, timed_parser

EMBED_DIM = 128
WIDTHS = (512, 256)  # of the experts, in turn
CALLS = ((5, 2), (16, 2), (16, 4))  # rows, experts
MATRICES = (4000, 1152)  # rows of a weight matrix: a vocabulary, queries with keys and values
BEAM = 5


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times the experts of few rows, and products with five rows."""
    cases: dict[str, Any] = {}
    for rows, count in CALLS:
        inputs = _inputs(rows, count)
        every = functools.partial(jax.jit(few_rows_ffn), *inputs)
        ffn = functools.partial(experts_ffn, ffn_dims=width_choices(WIDTHS), backend=choose(None))
        cases[f"sorted {rows} {count}"] = functools.partial(jax.jit(ffn), *inputs)
        cases[f"not sorted {rows} {count}"] = every
    x = jnp.ones((BEAM, EMBED_DIM))
    for units in MATRICES:
        weight = jnp.ones((units, EMBED_DIM))
        cases[f"by rows {units}"] = functools.partial(jax.jit(lambda x, w: x @ w.T), x, weight)
        cases[f"by columns {units}"] = functools.partial(jax.jit(lambda x, w: x @ w), x, weight.T)
    seconds = medians(cases, flags.repeats, title="few rows")
    return [*(_experts_row(*call, seconds) for call in CALLS), *_product_rows(seconds)]


def _inputs(rows: int, count: int) -> tuple[jax.Array, Routing, Experts, ExpertRows]:
    rng = np.random.default_rng(0)
    widths = np.resize(WIDTHS, count)
    units = int(widths.sum())
    shapes = ((units, EMBED_DIM), (units,), (units, EMBED_DIM), (count, EMBED_DIM))
    experts = Experts(*(jnp.asarray(rng.normal(0, 0.05, shape), jnp.float32) for shape in shapes))
    chosen = jnp.asarray(rng.integers(count, size=(rows, 1)), jnp.int32)
    routing = Routing(chosen, jnp.ones((rows, 1)), jnp.zeros((rows, count)))
    starts = jnp.asarray(np.cumsum(widths) - widths, jnp.int32)
    x = jnp.asarray(rng.normal(size=(rows, EMBED_DIM)), jnp.float32)
    return x, routing, experts, ExpertRows(starts, jnp.asarray(widths, jnp.int32))


def _experts_row(rows: int, count: int, seconds: dict[str, float]) -> Row:
    both = {kind: seconds[f"{kind} {rows} {count}"] for kind in ("sorted", "not sorted")}
    cells = {kind: f"{value * 1e6:.0f} µs" for kind, value in both.items()}
    return Row(
        f"Experts on few rows, D = {EMBED_DIM}, widths {WIDTHS[0]} and {WIDTHS[1]}",
        {"rows": str(rows), "experts": str(count)} | cells,
        figures=both,
    )


def _product_rows(seconds: dict[str, float]) -> list[Row]:
    rows = []
    for units in MATRICES:
        both = {kind: seconds[f"{kind} {units}"] for kind in ("by rows", "by columns")}
        cells = {kind: f"{value * 1e6:.0f} µs" for kind, value in both.items()}
        title = "Product of a step of beam search with a weight matrix, by its storage"
        product = f"[{BEAM}, {EMBED_DIM}] · [{units}, {EMBED_DIM}]ᵀ"
        rows.append(Row(title, {"product": product} | cells, figures=both))
    return rows


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.few_rows", __doc__))
