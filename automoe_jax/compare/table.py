"""Systems from the records of all runs, and the files that show them."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from automoe_jax.arch import Arch
from automoe_jax.compare.experiments import check_protocol
from automoe_jax.compare.latencies import load_latencies
from automoe_jax.compare.results import Record, load_outputs, load_records, load_references
from automoe_jax.compare.spread import spread
from automoe_jax.dependencies import completed
from automoe_jax.errors import UserError
from automoe_jax.inference.scores import Difference, paired_accuracy, paired_bootstrap
from automoe_jax.report import comparison
from automoe_jax.report.comparison import Curve, System
from automoe_jax.report.contents import number, quality
from automoe_jax.report.rows import Row
from automoe_jax.runtime.files import atomic_writer

FILE = "comparison.md"
_DATE = len("2026-11-23")


class _Run(NamedTuple):
    """One seed of a system: a row of a record."""

    record: Record
    row: Row
    outputs: list[str]
    latency_ms: float | None


def gather(results: Path, baseline: str) -> list[System]:
    """The systems of all records in the folder, the baseline first, then by BLEU or accuracy;
    raises `UserError` where there are none, or two have different test texts or protocols.
    """
    records = load_records(results)
    if not records:
        raise UserError(
            f"{results} holds no finished run; train some with python -m automoe_jax.compare"
            " --configs=…"
        )
    for record in records:
        if record.test != records[0].test:
            raise UserError(
                f"{record.run} translated another test text than {records[0].run}; keep their"
                f" files in separate folders, not both in {results}"
            )
    check_protocol({record.run: completed(record.config) for record in records})
    runs = _runs(results, records)
    systems = [_system(name, seeds) for name, seeds in runs.items()]
    if baseline in runs:
        references = load_references(results, records[0].test)
        systems = [
            system
            if system.name == baseline
            else dataclasses.replace(
                system, difference=_difference(runs[baseline], runs[system.name], references)
            )
            for system in systems
        ]
    return sorted(
        systems, key=lambda system: (system.name != baseline, -statistics.fmean(system.quality))
    )


def write_table(
    systems: Sequence[System], records: Sequence[Record], results: Path, baseline: str
) -> str:
    """Writes `FILE` and its plots to the folder of the records; returns the text."""
    text = f"{head(records, results, baseline)}\n{comparison.table(systems, baseline)}\n"
    if (varied := spread(records)) is not None:
        text += f"\n{varied}\n"
    for system in systems:
        if system.pieces:
            text += (
                "\nExperts of a token of the source,"
                f" {system.name}:\n\n{comparison.pieces_table(system)}\n"
            )
    files = {FILE: text, "comparison.svg": comparison.plot(systems)}
    if any(system.disagreement for system in systems):
        files["disagreement.svg"] = comparison.disagreement_plot(systems)
    learned = [system for system in systems if system.learning]
    if learned:
        files["learning.svg"] = comparison.learning_plot(learned)
    for name, content in files.items():
        with atomic_writer(results / name) as file:
            file.write(content.encode())
    return text


def head(records: Sequence[Record], results: Path, baseline: str) -> str:
    """The title of `FILE`, the command that writes it, and where its figures come from."""
    dates = sorted({record.date[:_DATE] for record in records})
    seeds = sorted({record.seed for record in records})
    devices = sorted({record.device for record in records})
    return (
        "# All columns\n\n"
        f"`python -m automoe_jax.compare --workdir=W --results={results} --baseline={baseline}`"
        " writes this page from the records in its folder; with `--configs` and `--seeds` it trains"
        " the runs first.\n\n"
        f"Runs of {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, seeds"
        f" {', '.join(map(str, seeds))}, on {'; '.join(devices)}.\n"
    )


def _runs(results: Path, records: Sequence[Record]) -> dict[str, dict[int, _Run]]:
    """The runs of each system by seed; every variant of a configuration is a system."""
    latencies = load_latencies(results)
    runs: dict[str, dict[int, _Run]] = {}
    for record in records:
        outputs = load_outputs(results, record)
        measured = latencies.get(record.run, {})
        for row in record.rows:
            name = record.name + (f" ({row.variant})" if row.variant else "")
            # A latency that was not measured together with the others is not compared with them.
            took = measured.get(row.key) if latencies else row.latency_ms
            runs.setdefault(name, {})[record.seed] = _Run(record, row, outputs[row.key], took)
    return runs


def _system(name: str, by_seed: Mapping[int, _Run]) -> System:
    runs = [by_seed[seed] for seed in sorted(by_seed)]
    rows = [run.row for run in runs]
    judged = quality(rows)
    records = [run.record for run in runs]
    return System(
        name=name,
        measures=("accuracy" if judged.key == "accuracy" else judged.unit, judged.second),
        quality=_values(rows, judged.key),
        second=_values(rows, judged.second_key),
        experts=_known(map(_experts, runs)),
        flops=_values(rows, "flops_measured", "flops"),
        params=_values(rows, "params"),
        active_params=_values(rows, "active_params_measured", "active_params"),
        sparsity=tuple(record.sparsity for record in records),
        sparsity_published=tuple(record.sparsity_published for record in records),
        train_tokens=_values(rows, "train_tokens"),
        train_seconds=_values(rows, "train_seconds"),
        search_seconds=tuple(
            sum(record.stage_seconds[stage] or 0 for stage in ("supernet", "search"))
            for record in records
        ),
        latency_ms=_known(run.latency_ms for run in runs),
        # The other variants of a run are the same training.
        disagreement=tuple(
            record.disagreement
            for record, row in zip(records, rows, strict=True)
            if record.disagreement[0] and not row.variant
        ),
        learning=tuple(
            _by_tokens(record.validation_nll, row)
            for record, row in zip(records, rows, strict=True)
            if record.validation_nll[0] and row.train_tokens and not row.variant
        ),
        pieces=rows[0].experts_of_pieces,
    )


def _by_tokens(curve: Curve, row: Row) -> Curve:
    """The curve over target tokens instead of updates; every update has about as many."""
    steps, values = curve
    return [step / steps[-1] * (row.train_tokens or 0) for step in steps], values


def _values(rows: Sequence[Row], *fields: str) -> tuple[float, ...]:
    """Of each row the first of these fields that it has."""
    return _known(next(iter(_known(number(row, field) for field in fields)), None) for row in rows)


def _known(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None)


def _difference(
    base: Mapping[int, _Run], system: Mapping[int, _Run], references: list[str]
) -> Difference | None:
    """Difference over the seeds that both have, with their texts concatenated."""
    seeds = sorted(base.keys() & system.keys())
    if not seeds:
        return None
    theirs, ours = (
        [line for seed in seeds for line in runs[seed].outputs] for runs in (base, system)
    )
    if system[seeds[0]].row.accuracy is not None:
        return paired_accuracy(theirs, ours, references * len(seeds))
    language = base[seeds[0]].record.config.get("data.target_language", "")
    return paired_bootstrap(theirs, {"it": ours}, references * len(seeds), language)["it"]


def _experts(run: _Run) -> float | None:
    """Experts per token, the mean over the layers that have several: as measured, or the gene
    top_k.
    """
    arch = Arch.from_dict(run.record.arch)
    top_k = [
        *arch.encoder_top_k.tolist()[: arch.encoder_layers],
        *arch.decoder_top_k.tolist()[: arch.decoder_layers],
    ]
    layers = zip(
        arch.encoder_experts + arch.decoder_experts,
        run.row.experts_per_token or top_k,
        strict=True,
    )
    several = [mean for widths, mean in layers if len(widths) > 1]
    return statistics.fmean(several) if several else None
