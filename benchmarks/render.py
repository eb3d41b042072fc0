"""Renders the JSON of benchmark runs as docs/BENCHMARKS.md, or one of them as a separate page.

python -m benchmarks.render runs/bench/*.json > docs/BENCHMARKS.md
python -m benchmarks.render --page=benchmarks/deploy_notes.md runs/bench/deploy/rows.json \
    > docs/benchmarks/deploy.md

The file of --page is the text of the page, with {tables} where the tables belong.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people

INTRODUCTION = """# Benchmarks

`make bench` measures the tables and writes this page; the notes are `benchmarks/notes.md`. The
cases of a table are interleaved in one process, and medians are compared. For comparison between
machines, each section states the rate of a float32 matrix product of 2048 × 2048. Goals that are
not met stay in the table.
"""


def benchmarks_page(paths: Sequence[str]) -> str:
    """docs/BENCHMARKS.md, with a section for each JSON file."""
    parts = [INTRODUCTION]
    for path in paths:
        result = json.loads(Path(path).read_text())
        parts += [f"## {Path(path).stem}\n", _machine(result), *tables(result["rows"])]
    notes = Path(__file__).parent / "notes.md"
    return "\n".join([*parts, notes.read_text()])


def page(text: str, path: str) -> str:
    """`text` with the tables of a JSON file."""
    result = json.loads(Path(path).read_text())
    return text.replace("{tables}", "\n".join([_machine(result), *tables(result["rows"])]))


def tables(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown of the tables that consecutive rows with one title form."""
    return [
        f"**{title}**\n\n{_table(list(group))}"
        for title, group in itertools.groupby(rows, key=lambda row: row["table"])
    ]


def main() -> None:
    """Prints docs/BENCHMARKS.md, or the page of --page."""
    parser = Parser("benchmarks.render", "Pages of benchmark results, in Markdown.")
    parser.add_argument("--page", type=Path, help="text of a page of one file of results")
    parser.add_argument("results", nargs="+", help="JSON files of benchmarks")
    flags = parser.parse()
    if flags.page is None:
        print(benchmarks_page(flags.results), end="")
    else:
        print(page(flags.page.read_text(), flags.results[0]), end="")


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return (
        f"`{result['command']}`\n\n{machine['date']}, {machine['device']}, {machine['cores']}"
        f" cores, {machine['gflops_of_a_matrix_product']} GFLOP/s in a matrix product, Python"
        f" {machine['python']}, jax {machine['jax']}; {result['seconds']:.0f} s.\n"
    )


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same columns; the goal's columns only where some row has one."""
    words = {True: "met", False: "**not met**", None: "–"}
    cells = [dict(row["cells"]) for row in rows]
    if any(row["goal"] for row in rows):
        for row, own in zip(rows, cells, strict=True):
            own |= {"goal": row["goal"] or "–", "result": words[row["met"]]}
    columns = list(cells[0])
    rules = ["---:" if all(own[name][:1].isdigit() for own in cells) else "---" for name in columns]
    lines = [columns, rules, *([own[name] for name in columns] for own in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_for_people(main))
