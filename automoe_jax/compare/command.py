"""Systems on the same text in one table: every configuration trained with every seed, each run kept
as one JSON file.

    python -m automoe_jax.compare --configs=configs/systems.py:dense,configs/systems.py:thor
    --seeds=1,2 --workdir=runs/systems
    python -m automoe_jax.compare --configs=configs/systems --seeds=1,2 --workdir=runs/systems

Run it again after a crash, or with more configurations or seeds: what is finished is skipped. Files
of other machines that lie in the same results folder join the table. At the end the latencies of
all of them are measured here in turns, as the same machine may be slower an hour later.
"""

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import Config, flatten, from_config_dict, from_flat
from automoe_jax.costs import sparsity
from automoe_jax.dependencies import TABLE, relevant
from automoe_jax.errors import UserError
from automoe_jax.inference import latency
from automoe_jax.inference.scores import Difference, paired_accuracy, paired_bootstrap
from automoe_jax.model.network import Network, Spec, initialised
from automoe_jax.registry import import_file
from automoe_jax.report import RETRAINED, comparison
from automoe_jax.report.comparison import System
from automoe_jax.report.plots import series
from automoe_jax.runtime.files import atomic_writer
from automoe_jax.runtime.machine import device, versions
from automoe_jax.stages.evaluate import inferences
from automoe_jax.train.checkpoint import VALIDATION
from automoe_jax.train.metrics import read_metrics
from automoe_jax.workdir import (
    Workdir,
    keep_compilations,
    read_json,
    recorded_settings,
    write_json,
)

# Stages whose results other runs can take over.
_SHARED = ("prepare", "supernet", "search")
_LATENCY = "latency.json"
# What `latency.measure` is told, and by which setting.
_TIMED = {
    "source_length": "search.source_length",
    "target_length": "search.target_length",
    "beam_size": "evaluate.beam_size",
    "runs": "evaluate.latency_runs",
}
# What a fair comparison has in common.
_SETTINGS = (
    "task",
    "data.",
    "retrain.steps",
    "retrain.tokens_per_batch",
    "evaluate.length_penalty",
    "evaluate.max_pairs",
)
_SETTINGS += tuple(_TIMED.values())


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One configuration file."""

    name: str  # the file's
    path: str
    config: Config


def load_experiments(paths: Sequence[str]) -> list[Experiment]:
    """The configurations; raises `UserError` where two do not train alike, so that no table could
    compare them.
    """
    experiments = [experiment for path in paths for experiment in _load(path)]
    if not experiments:
        raise UserError(
            f"--configs={','.join(paths)} names no configuration; name files with a get_config(),"
            " or a folder of them"
        )
    first, *others = experiments
    names = [experiment.name for experiment in experiments]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"--configs names two files called {name}; their runs would mix, so rename one"
            )
    for other in others:
        for field, value in _common(first.config).items():
            if _common(other.config)[field] != value:
                raise UserError(
                    f"config.{field} is {value!r} in {first.path} and"
                    f" {_common(other.config)[field]!r} in {other.path}; systems that are compared"
                    " must train on the same text for the same number of tokens and be measured"
                    " alike"
                )
    return experiments


def run_all(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    root: Path,
    results: Path,
    redo: bool = False,
) -> list[str]:
    """Trains what is not finished, a process for each run, and keeps its JSON; returns the names of
    the runs that failed. `redo` is the flag of `main`.
    """
    failed = []
    for seed in seeds:
        for experiment in experiments:
            run = f"{experiment.name}-{seed}"
            if (results / f"{run}.json").exists():
                print(f"compare: {run} is finished, skipped", flush=True)
                continue
            print(f"compare: {run} starts", flush=True)
            folder = root / run
            for stage in _SHARED:
                _share(stage, experiment, seed, root, folder)
            if _train(experiment, seed, folder, Workdir(epath.Path(root)).compilation_cache, redo):
                keep(Workdir(epath.Path(folder)), experiment.name, seed, results)
            else:
                failed.append(run)
    return failed


def keep(workdir: Workdir, name: str, seed: int, results: Path) -> None:
    """Writes what a table needs of a finished run to one JSON file, and the test text it translated
    beside it.
    """
    found, arch = read_json(workdir.evaluate / "results.json"), workdir.arch()
    text = {
        side: lines[: found["sentences"]]
        for side, lines in read_json(workdir.text_path("test")).items()
    }
    digest = hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:12]
    own, published = sparsity(arch)
    spec = workdir.spec(workdir.config(), arch)
    rows = [
        row | {"outputs": _outputs(workdir, row["name"])}
        for row in found["rows"]
        if row["name"].startswith(RETRAINED)
    ]
    metrics = read_metrics(workdir.retrained)
    results.mkdir(parents=True, exist_ok=True)
    write_json(epath.Path(results / f"test-{digest}.json"), text)
    record = {
        "name": name,
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "device": found["device"],
        "versions": found["versions"],
        "test": digest,
        "arch": arch.to_dict(),
        "vocab_size": spec.vocab_size,
        "classes": spec.classes,
        "sparsity": own,
        "sparsity_published": published,
        "stage_seconds": {
            stage: workdir.seconds(stage) for stage in ("supernet", "search", "retrain", "evaluate")
        },
        "rows": rows,
        "disagreement": [part.tolist() for part in series(metrics, "disagreement")],
        "validation_nll": [part.tolist() for part in series(metrics, VALIDATION)],
        "config": read_json(workdir.root / "config.json"),
    }
    write_json(epath.Path(results / f"{name}-{seed}.json"), record)
    (results / _LATENCY).unlink(missing_ok=True)  # does not hold this run


def measure_latencies(root: Path, results: Path) -> None:
    """Times the networks of all runs in turns on this device, and keeps it in latency.json; nothing
    where that has been done for them all.

    A run's file says its shapes, which decide the time; its weights are not needed, so that runs of
    other machines are timed too. Those without `evaluate.latency_runs` are left out, and, with a
    line that says so, those that would time something else than the first or that this version does
    not know.
    """
    records = {path.stem: read_json(epath.Path(path)) for path in _records(results)}
    if records.keys() <= _latencies(results).keys():
        return
    keep_compilations(Workdir(epath.Path(root).resolve()))
    networks: dict[tuple[str, str], Network] = {}
    wanted: dict[str, Any] = {}
    for run, record in records.items():
        try:
            timed = {name: record["config"][field] for name, field in _TIMED.items()}
            if not timed["runs"]:
                continue
            wanted = wanted or timed
            if timed != wanted:
                raise UserError(f"it times {timed}, others {wanted}")
            networks |= {
                (run, row): initialised(spec, jax.random.key(0))
                for row, spec in specs(record).items()
            }
        except UserError as error:
            print(f"compare: the latency of {run} is not measured: {error}", flush=True)
    if not networks:
        return
    print(f"compare: measures the latency of {len(networks)} networks in turns", flush=True)
    took = latency.measure(list(networks.values()), **wanted)
    milliseconds: dict[str, dict[str, float]] = {run: {} for run in records}
    for (run, row), each in zip(networks, took, strict=True):
        milliseconds[run][row] = round(each.total, 3)
    measured = {
        "date": datetime.date.today().isoformat(),
        "device": device(),
        "versions": versions(),
        "milliseconds": milliseconds,
    }
    write_json(epath.Path(results / _LATENCY), measured)


def specs(record: Mapping[str, Any]) -> dict[str, Spec]:
    """The network of a run's file, by the name of its row, and again for every other way to choose
    experts at random.

    Raises `UserError` where this version does not know its settings.
    """
    arch = Arch.from_dict(record["arch"])
    return {
        row: Spec(
            way.space, record["vocab_size"], arch=arch, router=way.router, classes=record["classes"]
        )
        for row, way in inferences(from_flat(record["config"])).items()
    }


def gather(results: Path, baseline: str) -> list[System]:
    """The systems of all JSON files in the folder, the baseline first, then by BLEU or accuracy;
    raises `UserError` for another test text.
    """
    records = [read_json(epath.Path(path)) for path in _records(results)]
    if not records:
        raise UserError(
            f"{results} holds no finished run; let python -m automoe_jax.compare --configs=… train"
            " some"
        )
    for record in records:
        if record["test"] != records[0]["test"]:
            raise UserError(
                f"{record['name']}-{record['seed']} translated another test text than"
                f" {records[0]['name']}-{records[0]['seed']}; keep their files in folders of their"
                f" own, not both in {results}"
            )
    references = read_json(epath.Path(results / f"test-{records[0]['test']}.json"))["target"]
    latencies = _latencies(results)
    runs: dict[str, dict[int, Any]] = {}
    for record in records:
        for row in record["rows"]:
            name = record["name"] + row["name"].removeprefix(RETRAINED)
            # Latencies of another hour are not compared with those measured in turns.
            in_turns = (
                {
                    "latency_ms": (
                        latencies.get(f"{record['name']}-{record['seed']}", {}).get(row["name"])
                    )
                }
                if latencies
                else {}
            )
            runs.setdefault(name, {})[record["seed"]] = {
                **record,
                **row,
                **in_turns,
                "system": record["name"],
                "name": name,
            }
    systems = [_system(name, by_seed) for name, by_seed in runs.items()]
    if baseline in runs:
        differences = {
            name: _difference(runs[baseline], by_seed, references)
            for name, by_seed in runs.items()
            if name != baseline
        }
        systems = [
            dataclasses.replace(system, difference=differences.get(system.name))
            for system in systems
        ]
    return sorted(
        systems, key=lambda system: (system.name != baseline, -statistics.fmean(system.quality))
    )


def write_table(systems: Sequence[System], results: Path, baseline: str) -> str:
    """Leaves comparison.md and its plots in the folder; returns the text."""
    text = comparison.table(systems, baseline) + "\n"
    for system in systems:
        if system.pieces:
            text += (
                "\nExperts of a token of the source,"
                f" {system.name}:\n\n{comparison.pieces_table(system)}\n"
            )
    files = {"comparison.md": text, "comparison.svg": comparison.plot(systems)}
    if any(system.disagreement for system in systems):
        files["disagreement.svg"] = comparison.disagreement_plot(systems)
    for name, content in files.items():
        with atomic_writer(results / name) as file:
            file.write(content.encode())
    return text


def _records(results: Path) -> list[Path]:
    """The files of the finished runs."""
    return [
        path
        for path in sorted(results.glob("*.json"))
        if path.name != _LATENCY and not path.name.startswith("test-")
    ]


def _latencies(results: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of one sentence measured in turns: of each run, of each of its rows."""
    path = epath.Path(results / _LATENCY)
    return read_json(path)["milliseconds"] if path.exists() else {}


def _load(path: str) -> list[Experiment]:
    """The experiments of a file, or those of all the files of a folder that have a get_config().

    A file with a table SYSTEMS holds one experiment for each entry; "configs/systems" is also the
    file configs/systems.py.
    """
    file, _, argument = path.partition(":")
    if Path(f"{file}.py").is_file():
        file += ".py"
    elif Path(file).is_dir():
        inside = sorted(Path(file).glob("*.py"))
        return [experiment for one in inside for experiment in _load(str(one))]
    if not Path(file).is_file():
        raise UserError(
            f"--configs names {file}, which is not there; name configuration files or folders,"
            " separated by commas"
        )
    module = import_file(file)
    if "get_config" not in module:
        return []
    systems = module.get("SYSTEMS")
    arguments = list(systems) if systems and not argument else [argument]
    found = []
    for one in arguments:
        config = from_config_dict(module["get_config"](*filter(None, [one])))
        name = "-".join(filter(None, ["" if systems else Path(file).stem, one]))
        found.append(Experiment(name, f"{file}:{one}" if one else file, config))
    return found


def _common(config: Config) -> dict[str, Any]:
    flat = flatten(dataclasses.asdict(config))
    return {name: value for name, value in flat.items() if name.startswith(_SETTINGS)}


def _share(stage: str, experiment: Experiment, seed: int, root: Path, folder: Path) -> None:
    """Copies what another run with the same settings left of a stage, instead of doing it again."""
    done, kept = Path("stages") / f"{stage}.json", TABLE[stage].results
    if (folder / done).exists():
        return
    settings = flatten(dataclasses.asdict(experiment.config)) | {"seed": seed}
    wanted = relevant(stage, json.loads(json.dumps(settings)))
    for marker in sorted(root.glob(f"*/{done}")):
        other = marker.parents[1]
        there = relevant(stage, recorded_settings(epath.Path(other / "config.json")))
        if wanted == there and all((other / name).exists() for name in kept):
            for name in kept:
                if (other / name).is_dir():
                    shutil.copytree(other / name, folder / name, dirs_exist_ok=True)
                else:
                    shutil.copy(other / name, folder / name)
            (folder / done).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(marker, folder / done)
            return


def _train(experiment: Experiment, seed: int, folder: Path, cache: epath.Path, redo: bool) -> bool:
    """Runs the whole pipeline of one experiment in a process of its own; whether it got to its
    end.
    """
    command = [
        sys.executable,
        "-m",
        "automoe_jax.main",
        f"--config={experiment.path}",
        f"--workdir={folder}",
        f"--config.seed={seed}",
        f"--redo={redo}",
    ]
    # The dense Transformer is a configuration of its own here.
    command.append("--config.retrain.dense_baseline=false")
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(cache.resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    # as in `workdir.keep_compilations`
    environment["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
    return subprocess.run(command, env=environment | os.environ, check=False).returncode == 0


def _outputs(workdir: Workdir, name: str) -> list[str]:
    return read_json(workdir.evaluate / f"{name.replace(' ', '_')}.json")["outputs"]


def _system(name: str, by_seed: Mapping[int, Mapping[str, Any]]) -> System:
    runs = [by_seed[seed] for seed in sorted(by_seed)]

    def of(key):
        return tuple(float(run[key]) for run in runs if run.get(key) is not None)

    measured = lambda key: of(f"{key}_measured") or of(key)  # noqa: E731
    quality, second = ("accuracy", "macro_f1") if "accuracy" in runs[0] else ("bleu", "chrf")
    return System(
        name=name,
        measures=("accuracy", "macro F1") if quality == "accuracy" else ("BLEU", "chrF"),
        quality=of(quality),
        second=of(second),
        experts=tuple(mean for run in runs if (mean := _experts(run)) is not None),
        flops=measured("flops"),
        params=of("params"),
        active_params=measured("active_params"),
        sparsity=of("sparsity"),
        sparsity_published=of("sparsity_published"),
        train_tokens=of("train_tokens"),
        train_seconds=of("train_seconds"),
        search_seconds=tuple(
            sum(run["stage_seconds"][stage] or 0 for stage in ("supernet", "search"))
            for run in runs
        ),
        latency_ms=of("latency_ms"),
        # The other rows of a run are the same training.
        disagreement=(
            tuple(curve for run in runs if (curve := run.get("disagreement", ((), ())))[0])
            if name == runs[0]["system"]
            else ()
        ),
        pieces=tuple(runs[0].get("experts_of_pieces", ())),
    )


def _difference(
    base: Mapping[int, Any], system: Mapping[int, Any], references: list[str]
) -> Difference | None:
    """Over the seeds that both have, their texts one after another."""
    seeds = sorted(base.keys() & system.keys())
    if not seeds:
        return None
    theirs, ours = (
        [line for seed in seeds for line in runs[seed]["outputs"]] for runs in (base, system)
    )
    if "accuracy" in system[seeds[0]]:
        return paired_accuracy(theirs, ours, references * len(seeds))
    return paired_bootstrap(theirs, {"it": ours}, references * len(seeds))["it"]


def _experts(run: Mapping[str, Any]) -> float | None:
    """Experts per token, the mean over the layers that have several: as measured, or as many as the
    architecture says.
    """
    arch = Arch.from_dict(run["arch"])
    top_k = [
        *arch.encoder_top_k.tolist()[: arch.encoder_layers],
        *arch.decoder_top_k.tolist()[: arch.decoder_layers],
    ]
    layers = zip(
        arch.encoder_experts + arch.decoder_experts,
        run.get("experts_per_token", top_k),
        strict=True,
    )
    several = [mean for widths, mean in layers if len(widths) > 1]
    return statistics.fmean(several) if several else None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, gathers, prints the table; 1 where a run failed."""
    parser = _Parser(
        prog="python -m automoe_jax.compare", description="Systems trained alike, in one table."
    )
    parser.add_argument(
        "--configs",
        default="",
        help="configuration files or folders of them, separated by commas; none: only gather",
    )
    parser.add_argument("--seeds", default="1", help="numbers, separated by commas (default: 1)")
    parser.add_argument("--workdir", required=True, help="where the runs are kept")
    parser.add_argument(
        "--results", help="where their JSON files and the table go (default: WORKDIR/results)"
    )
    parser.add_argument(
        "--redo",
        action="store_true",
        help="unfinished runs: run stages again whose results depend on settings that have changed",
    )
    parser.add_argument(
        "--baseline",
        default="dense",
        help="the system the others are compared with (default: dense)",
    )
    flags = parser.parse_args(arguments)
    root = Path(flags.workdir)
    results = Path(flags.results) if flags.results else root / "results"
    failed = []
    if flags.configs:
        try:
            seeds = [int(seed) for seed in flags.seeds.split(",")]
        except ValueError:
            raise UserError(
                f"--seeds={flags.seeds} must be whole numbers, separated by commas"
            ) from None
        failed = run_all(
            load_experiments([path for path in flags.configs.split(",") if path]),
            seeds,
            root,
            results,
            flags.redo,
        )
    measure_latencies(root, results)
    systems = gather(results, flags.baseline)
    print(write_table(systems, results, flags.baseline))
    print(f"compare: {results / 'comparison.md'}, with its plots beside it", flush=True)
    if failed:
        print(
            f"error: {', '.join(failed)} did not get to the end; run the same command again to"
            " go on",
            file=sys.stderr,
        )
    return 1 if failed else 0
