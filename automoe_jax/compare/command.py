"""Systems on the same text in one table: every configuration is trained with every seed.

    python -m automoe_jax.compare --configs=configs/systems.py:dense,configs/systems.py:thor
    --seeds=1,2 --workdir=runs/systems
    python -m automoe_jax.compare --configs=configs/systems --seeds=1,2 --workdir=runs/systems

Run it again after a crash, or with more configurations or seeds: finished runs are skipped; if
their settings have changed since, the command says so and needs --redo. Files
of other machines in the same results folder join the table. At the end the latencies of all
networks are measured on this device, interleaved.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from automoe_jax.command.parser import Parser
from automoe_jax.compare.experiments import (
    Experiment,
    check_protocol,
    load_experiments,
    seeds_of,
)
from automoe_jax.compare.latencies import measure_latencies
from automoe_jax.compare.results import load_records
from automoe_jax.compare.runs import run_all
from automoe_jax.compare.table import FILE, gather, write_table
from automoe_jax.dependencies import completed, settings_of
from automoe_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, gathers, prints the table; returns 1 if a run failed."""
    parser = Parser("automoe_jax.compare", "Systems trained under one protocol, in one table.")
    parser.add_argument(
        "--configs",
        default="",
        help="configuration files or folders of them, separated by commas; none: only gather",
    )
    parser.add_argument("--seeds", default="1", help="numbers, separated by commas (default: 1)")
    parser.add_argument("--workdir", required=True, help="folder of the runs")
    parser.add_argument(
        "--results", help="folder of their JSON files and the table (default: WORKDIR/results)"
    )
    parser.add_switch(
        "redo",
        "run stages again whose results depend on changed settings, of finished runs too",
    )
    parser.add_argument(
        "--baseline",
        default="dense",
        help="the system the others are compared with (default: dense)",
    )
    flags = parser.parse(arguments)
    root = Path(flags.workdir)
    results = Path(flags.results) if flags.results else root / "results"
    if results.is_file():  # found before the runs, which may take hours
        raise UserError(f"--results={results} is a file; name a folder")
    failed = []
    if flags.configs:
        seeds = seeds_of(flags.seeds)
        experiments = load_experiments([path for path in flags.configs.split(",") if path])
        _check_beside(experiments, results)
        failed = run_all(experiments, seeds, root, results, flags.redo)
    records = load_records(results)
    if failed and not records:
        return _report(failed)
    measure_latencies(root, results, records)
    systems = gather(results, flags.baseline)
    print(write_table(systems, records, results, flags.baseline))
    if flags.baseline not in (system.name for system in systems):
        print(
            f"compare: no differences, since no run of --baseline={flags.baseline} is finished;"
            f" name one of {', '.join(system.name for system in systems)}",
            flush=True,
        )
    print(f"compare: {results / FILE} and its plots", flush=True)
    return _report(failed)


def _check_beside(experiments: Sequence[Experiment], results: Path) -> None:
    """Raises `UserError`, before runs that take hours, if these experiments do not share the
    protocol of the other systems whose records are in the folder.
    """
    names = {experiment.name for experiment in experiments}
    others = [record for record in load_records(results) if record.name not in names]
    check_protocol(
        {record.run: completed(record.config) for record in others}
        | {experiment.name: settings_of(experiment.config) for experiment in experiments}
    )


def _report(failed: Sequence[str]) -> int:
    """Names the runs that failed; returns the exit code."""
    if failed:
        print(
            f"error: {', '.join(failed)} did not finish; run the same command again to resume",
            file=sys.stderr,
        )
    return 1 if failed else 0
