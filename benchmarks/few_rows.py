"""Products of a decoding step, with few rows: experts that are sorted, all applied or only the
chosen ones, and weights stored by rows, by columns, in bfloat16 or in 8-bit integers.

python -m benchmarks.few_rows --json=few_rows.json
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.ops.columns import by_columns
from automoe_jax.ops.grouped import ExpertRows, Experts, experts_ffn, width_choices
from automoe_jax.ops.grouped.backends import choose
from automoe_jax.ops.grouped.chosen import apart, chosen_ffn
from automoe_jax.ops.grouped.few_rows import few_rows_ffn
from automoe_jax.ops.routers import Routing
from benchmarks.harness import Row, medians, run, timed_parser

EMBED_DIM = 128
WIDTHS = (512, 256)  # of the experts, in turn
CALLS = ((5, 2), (16, 2), (16, 4))  # rows, experts
MATRICES = ((4000, 128), (1152, 128), (1024, 256), (8000, 256))  # of weights
BEAM, STEPS = 5, 32
EXPERTS, DISTINCT = 4, (1, 2, 3, 4)  # all experts, and those that some row chose
SHAPES = ((128, 512), (256, 1024))  # embedding width, width of each of them

Case = Callable[[], Any]


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times the experts of few rows, and products with five rows."""
    cases: dict[str, Case] = {}
    for rows, count in CALLS:
        inputs = _inputs(EMBED_DIM, np.resize(WIDTHS, count), _drawn(rows, count))
        ffn = functools.partial(experts_ffn, ffn_dims=width_choices(WIDTHS), backend=choose(None))
        cases[f"sorted {rows} {count}"] = functools.partial(jax.jit(ffn), *inputs)
        cases[f"not sorted {rows} {count}"] = functools.partial(jax.jit(few_rows_ffn), *inputs)
    for shape in SHAPES:
        for distinct in DISTINCT:
            cases |= _chosen_cases(*shape, distinct)
    for units, width in MATRICES:
        cases |= _product_cases(units, width)
    seconds = medians(cases, flags.repeats, title="few rows")
    return [
        *(_experts_row(*call, seconds) for call in CALLS),
        *(_chosen_row(*shape, distinct, seconds) for shape in SHAPES for distinct in DISTINCT),
        *(_product_row(*matrix, seconds) for matrix in MATRICES),
    ]


def _drawn(rows: int, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(count, size=rows)


def _inputs(
    width: int, widths: np.ndarray, chosen: np.ndarray
) -> tuple[jax.Array, Routing, Experts, ExpertRows]:
    rng = np.random.default_rng(0)
    units, rows, count = int(widths.sum()), len(chosen), len(widths)
    shapes = ((units, width), (units,), (units, width), (count, width))
    experts = Experts(*(jnp.asarray(rng.normal(0, 0.05, shape), jnp.float32) for shape in shapes))
    routing = Routing(
        jnp.asarray(chosen[:, None], jnp.int32), jnp.ones((rows, 1)), jnp.zeros((rows, count))
    )
    starts = jnp.asarray(np.cumsum(widths) - widths, jnp.int32)
    x = jnp.asarray(rng.normal(size=(rows, width)), jnp.float32)
    return x, routing, experts, ExpertRows(starts, jnp.asarray(widths, jnp.int32))


def _steps(ffn: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """As many steps as a sentence has, each from the result of the one before."""
    return jax.lax.fori_loop(0, STEPS, lambda _, x: 0.9 * x + 0.1 * ffn(x), x)


def _chosen_cases(width: int, units: int, distinct: int) -> dict[str, Case]:
    widths, chosen = np.full(EXPERTS, units), np.resize(np.arange(distinct), BEAM)
    x, routing, experts, expert_rows = _inputs(width, widths, chosen)

    @jax.jit
    def every(x: jax.Array, routing: Routing, experts: Experts) -> jax.Array:
        by_unit = experts._replace(w_in=by_columns(experts.w_in, BEAM))
        return _steps(lambda x: few_rows_ffn(x, routing, by_unit, expert_rows), x)

    @jax.jit
    def only_chosen(x: jax.Array, routing: Routing, experts: Experts) -> jax.Array:
        each = apart(experts, widths.tolist(), BEAM)
        return _steps(lambda x: chosen_ffn(x, routing, each), x)

    name = f"{width} {units} {distinct}"
    return {
        f"all {name}": functools.partial(every, x, routing, experts),
        f"chosen {name}": functools.partial(only_chosen, x, routing, experts),
    }


def _product_cases(units: int, width: int) -> dict[str, Case]:
    x, weight, name = jnp.ones((BEAM, width)), jnp.ones((units, width)), f"{units} {width}"
    half, whole = weight.T.astype(jnp.bfloat16), weight.T.astype(jnp.int8)
    rows, columns = jax.jit(lambda x, w: x @ w.T), jax.jit(lambda x, w: x @ w)
    integer = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.int32))
    return {
        f"by rows {name}": functools.partial(rows, x, weight),
        f"by columns {name}": functools.partial(columns, x, weight.T.copy()),
        f"bfloat16 {name}": functools.partial(columns, x.astype(jnp.bfloat16), half),
        f"int8 {name}": functools.partial(integer, x.astype(jnp.int8), whole),
    }


def _experts_row(rows: int, count: int, seconds: dict[str, float]) -> Row:
    title = f"Experts on few rows, D = {EMBED_DIM}, widths {WIDTHS[0]} and {WIDTHS[1]}"
    of = {kind: seconds[f"{kind} {rows} {count}"] for kind in ("sorted", "not sorted")}
    return _row(title, {"rows": str(rows), "experts": str(count)}, of)


def _chosen_row(width: int, units: int, distinct: int, seconds: dict[str, float]) -> Row:
    title = f"{EXPERTS} experts in {STEPS} steps of {BEAM} rows: all, or only the chosen ones"
    of = {kind: seconds[f"{kind} {width} {units} {distinct}"] for kind in ("all", "chosen")}
    labels = {"D": str(width), "width of each": str(units), "chosen ones": str(distinct)}
    return _row(title, labels, of)


def _product_row(units: int, width: int, seconds: dict[str, float]) -> Row:
    kinds = ("by rows", "by columns", "bfloat16", "int8")
    of = {kind: seconds[f"{kind} {units} {width}"] for kind in kinds}
    title = "Product of a step of beam search with a weight matrix, by its storage"
    return _row(title, {"product": f"[{BEAM}, {width}] · [{units}, {width}]ᵀ"}, of)


def _row(title: str, labels: dict[str, str], of: dict[str, float]) -> Row:
    cells = {kind: f"{value * 1e6:.0f} µs" for kind, value in of.items()}
    return Row(title, labels | cells, figures=of)


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.few_rows", __doc__))
