"""JSON of benchmark runs → docs/BENCHMARKS.md.

python -m benchmarks.render runs/bench/*.json > docs/BENCHMARKS.md
"""

import json
import sys
from pathlib import Path
from typing import Any

INTRODUCTION = """# Benchmarks

Written by `make bench` from the runs' JSON; the notes are `benchmarks/notes.md`. Every row compares
things that were timed in turns in one run, and two machines differ, so each run also says how fast
this machine multiplies two float32 matrices of 2048 × 2048. A goal that is not met stays here with
its number.
"""


def main(paths: list[str]) -> str:
    """The page."""
    parts = [INTRODUCTION]
    for path in paths:
        result = json.loads(Path(path).read_text())
        parts += [f"## {Path(path).stem}\n", _machine(result), _table(result["rows"])]
    notes = Path(__file__).parent / "notes.md"
    return "\n".join([*parts, notes.read_text() if notes.exists() else ""])


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return (
        f"`{result['command']}`\n\n{machine['date']}, {machine['device']}, {machine['cores']}"
        f" cores, {machine['gflops_of_a_matrix_product']} GFLOP/s in a matrix product, Python"
        f" {machine['python']}, jax {machine['jax']}; {result['seconds']:.0f} s.\n"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    words = {True: "met", False: "**not met**", None: "–"}
    lines = ["| what | measured | goal | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row['what']} | {row['measured']} | {row['goal'] or '–'} | {words[row['met']]} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(main(sys.argv[1:]), end="")
