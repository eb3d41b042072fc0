"""Shared parts of all benchmarks: interleaved repeats, plain matrix products as the reference,
facts of the machine, the report.

A benchmark is a module whose `measure(flags) -> list[Row]` is passed to `run`. Cases are
interleaved, so that a slow minute of the machine affects all of them, and medians are compared.
"""

import argparse
import dataclasses
import datetime
import functools
import json
import math
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.latency.timing import in_turn

REPEATS = 9  # of each case, unless --repeats gives another number


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table in docs/BENCHMARKS.md; rows of one table have the same columns."""

    table: str  # title
    cells: dict[str, str]  # column → text, as {"ms": "13.7"}
    goal: str = ""  # empty if there is none
    met: bool | None = None  # None if there is no goal
    figures: dict[str, float] = dataclasses.field(default_factory=dict)  # unrounded numbers

    def __str__(self) -> str:
        cells = ", ".join(f"{column} {text}" for column, text in self.cells.items())
        mark = {True: "met", False: "NOT met", None: ""}[self.met]
        return f"{self.table}: {cells}" + (f" (goal {self.goal}: {mark})" if self.goal else "")


def parser(module: str, description: str | None) -> Parser:
    """The flags of every benchmark; `description` is the module's docstring, of which the first
    paragraph is shown.
    """
    flags = Parser(module, (description or "").partition("\n\n")[0])
    flags.add_argument("--json", type=Path, help="file to write the rows to")
    return flags


def timed_parser(module: str, description: str | None) -> Parser:
    """`parser` with --repeats."""
    flags = parser(module, description)
    flags.add_argument("--repeats", type=int, default=REPEATS, help="repeats of each case")
    return flags


def run(measure: Callable[[argparse.Namespace], list[Row]], flags: Parser) -> NoReturn:
    """Runs a benchmark as a command: prints its rows and writes them to --json."""

    def main() -> None:
        values = flags.parse()
        if values.json:
            # before measuring, whose result would otherwise be lost
            values.json.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        rows = measure(values)
        print(*rows, sep="\n")
        if values.json:
            save(values.json, [dataclasses.asdict(row) for row in rows], started)

    sys.exit(run_for_people(main))


def run_by_case(
    cases: Mapping[str, Callable[[], list[Row]]],
    path: Path | None = None,
    seconds: float = math.inf,
) -> None:
    """Runs the cases of a benchmark whose rows the file `path` does not contain yet, and writes it
    after each; starts none after `seconds`, so that a later call measures the rest.
    """
    started = time.perf_counter()
    kept = json.loads(path.read_text())["rows"] if path and path.exists() else []
    for name, measure in cases.items():
        if any(row["case"] == name for row in kept):
            continue
        if time.perf_counter() - started > seconds:
            break
        rows = measure()
        print(*rows, sep="\n", flush=True)
        kept += [dataclasses.asdict(row) | {"case": name} for row in rows]
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, in_tables(kept), started)


def in_tables(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of each table in a sequence, the tables in the order of their first rows, the rows
    in the order of their cases.
    """
    titles = list(dict.fromkeys(row["table"] for row in rows))
    return sorted(rows, key=lambda row: titles.index(row["table"]))


def save(path: Path, rows: list[dict[str, Any]], started: float) -> None:
    """Writes the rows with the machine and the seconds since `started`."""
    command = " ".join(["python -m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    result = {
        "command": command,
        "seconds": round(time.perf_counter() - started, 1),
        "machine": machine(),
        "rows": rows,
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


def medians(
    cases: Mapping[str, Callable[[], Any]], repeats: int = REPEATS, title: str = ""
) -> dict[str, float]:
    """Median seconds of each case; each runs once to compile, then all are interleaved."""
    return {
        name: statistics.median(seconds) for name, seconds in timings(cases, repeats, title).items()
    }


def timings(
    cases: Mapping[str, Callable[[], Any]], repeats: int = REPEATS, title: str = ""
) -> dict[str, list[float]]:
    """Seconds of each repeat of each case."""
    for call in tqdm(cases.values(), desc=f"{title} (compile)", file=sys.stderr, leave=False):
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for number in tqdm(range(repeats), desc=title, file=sys.stderr, leave=False):
        for name in (names[i] for i in in_turn(len(names), number)):
            started = time.perf_counter()
            jax.block_until_ready(cases[name]())
            seconds[name].append(time.perf_counter() - started)
    return seconds


def products(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[[], Any], float]:
    """A call that computes only the matrix products of `function`, and their FLOPs.

    The products are those of its jaxpr, with their shapes, dtypes and contracted axes; none may be
    inside a loop with a traced trip count or a conditional. Each runs as often as it occurs, one
    after another.
    """
    counts: Counter[tuple] = Counter()
    _collect(jax.make_jaxpr(function)(*arguments).jaxpr, counts)
    rng = np.random.default_rng(0)
    inputs, flops = [], 0.0
    for (left, right, dimensions, out_shape), count in counts.items():
        inputs.append(
            tuple(
                jnp.asarray(rng.standard_normal(side.shape), side.dtype) for side in (left, right)
            )
        )
        contracted = np.prod([left.shape[axis] for axis in dimensions[0][0]])
        flops += 2.0 * float(np.prod(out_shape) * contracted) * count
    calls = [
        (
            jax.jit(
                lambda a, b, d=dimensions, t=left.dtype: jax.lax.dot_general(
                    a, b, d, preferred_element_type=t
                )
            ),
            count,
        )
        for (left, _, dimensions, _), count in counts.items()
    ]

    def all_of_them() -> Any:
        last: Any = None
        for (call, count), pair in zip(calls, inputs, strict=True):
            for _ in range(count):
                last = call(*pair)
            jax.block_until_ready(last)
        return last

    return all_of_them, flops


def rates(title: str, seconds: Mapping[str, float], flops: float) -> list[Row]:
    """Speed of the cases "largest" and "largest dense, cut out" relative to "plain products", the
    same matrix products without anything else, of `flops` FLOPs.
    """
    plain = seconds["plain products"]
    programs = {"in the SuperNet": "largest", "dense, at its own shapes": "largest dense, cut out"}
    rows = []
    for program, case in programs.items():
        share = plain / seconds[case]
        cells = {
            "program": program,
            "share of the rate": f"{share:.0%}",
            "plain GFLOP/s": f"{flops / plain / 1e9:.0f}",
        }
        goal, met = ("≥ 60%", share >= 0.6) if case == "largest" else ("", None)
        figures = {"share": share, "plain_seconds": plain}
        rows.append(Row(f"{title}, relative to plain matrix products", cells, goal, met, figures))
    return rows


def matrix_rate() -> float:
    """FLOP/s of a plain float32 matrix product [2048, 2048] × [2048, 2048] on this machine, the
    best of many.
    """
    a = jnp.ones((2048, 2048))
    call = jax.jit(jnp.matmul)
    return 2 * 2048**3 / min(timings({"": lambda: call(a, a)}, 15, "matrix product")[""])


@functools.cache
def machine() -> dict[str, Any]:
    """The machine and versions behind the figures."""
    device = jax.devices()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "device": device.device_kind if device.platform != "cpu" else _cpu_name(),
        "cores": os.cpu_count(),
        "gflops_of_a_matrix_product": round(matrix_rate() / 1e9, 1),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _collect(jaxpr: Any, counts: Counter, times: int = 1) -> None:
    """Counts the dot_general equations of a jaxpr and of those it calls."""
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, list(jax.core.jaxprs_in_params(equation.params))
        if name == "dot_general":
            left, right = (variable.aval for variable in equation.invars)
            counts[
                left, right, equation.params["dimension_numbers"], equation.outvars[0].aval.shape
            ] += times
        elif name in ("while", "cond") and any("dot_general" in str(part) for part in inner):
            raise ValueError(
                f"a {name} holds matrix products; give an exact-shape program without it"
            )
        for part in inner:
            _collect(part, counts, times * equation.params["length"] if name == "scan" else times)
