"""Latencies of the networks of all runs, measured interleaved on one device.

A machine's speed changes over hours, so only latencies that were measured together are compared.
"""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.compare.results import LATENCY, Record
from automoe_jax.config import from_flat
from automoe_jax.errors import UserError
from automoe_jax.evaluation.networks import inferences
from automoe_jax.inference import latency
from automoe_jax.model.network import Network, Spec, initialised, spec_of
from automoe_jax.report.rows import RowKey
from automoe_jax.runtime.files import read_json, write_json
from automoe_jax.runtime.machine import device, versions
from automoe_jax.workdir import Workdir, keep_compilations

# Arguments of `latency.measure` and the settings they come from.
TIMED = {
    "source_length": "search.source_length",
    "target_length": "search.target_length",
    "beam_size": "evaluate.beam_size",
    "runs": "evaluate.latency_runs",
}


def load_latencies(results: Path) -> dict[str, dict[RowKey, float]]:
    """Milliseconds of one sentence, by run and row; empty where none were measured."""
    path = epath.Path(results / LATENCY)
    if not path.exists():
        return {}
    return {
        run: {RowKey.parse(key): value for key, value in rows.items()}
        for run, rows in read_json(path)["milliseconds"].items()
    }


def measure_latencies(root: Path, results: Path, records: Sequence[Record]) -> None:
    """Measures the latency of the networks of all runs and writes `latency.json`; does nothing if
    that file holds all runs.

    The record of a run holds its shapes, which determine the time; weights are not needed, so runs
    of other machines are measured too, as often as the first asks. Runs without
    `evaluate.latency_runs` are skipped, and, with a message, those whose settings this version does
    not know. The records share what is timed (`experiments.check_protocol`).
    """
    if {record.run for record in records} <= load_latencies(results).keys():
        return
    keep_compilations(Workdir(epath.Path(root).resolve()))
    networks: dict[tuple[str, RowKey], Network] = {}
    wanted: dict[str, Any] = {}
    for record in records:
        try:
            timed = {name: record.config[field] for name, field in TIMED.items()}
            if not timed["runs"]:
                continue
            wanted = wanted or timed
            networks |= {
                (record.run, key): initialised(spec, jax.random.key(0))
                for key, spec in specs(record).items()
            }
        except UserError as error:
            print(f"compare: the latency of {record.run} is not measured: {error}", flush=True)
    if not networks:
        return
    print(f"compare: measures the latency of {len(networks)} networks, interleaved", flush=True)
    took = latency.measure(list(networks.values()), **wanted)
    milliseconds: dict[str, dict[str, float]] = {record.run: {} for record in records}
    for (run, key), each in zip(networks, took, strict=True):
        milliseconds[run][str(key)] = round(each.total, 3)
    _save(results, milliseconds)


def specs(record: Record) -> dict[RowKey, Spec]:
    """The networks of a run, one for each way to choose experts in inference.

    Raises `UserError` where this version does not know its settings.
    """
    arch = Arch.from_dict(record.arch)
    return {
        key: spec_of(
            way,
            record.vocab_size,
            arch=arch,
            classes=record.classes,
            target_vocab_size=record.target_vocab_size,
        )
        for key, way in inferences(from_flat(record.config)).items()
    }


def _save(results: Path, milliseconds: Mapping[str, Mapping[str, float]]) -> None:
    measured = {
        "date": datetime.date.today().isoformat(),
        "device": device(),
        "versions": versions(),
        "milliseconds": milliseconds,
    }
    write_json(epath.Path(results / LATENCY), measured)
