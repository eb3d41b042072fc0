"""Learning rates of the compared systems, chosen on the validation text.

    python -m automoe_jax.compare.rates --configs=configs/systems --rates=2e-3,4e-3,8e-3
    --workdir=runs/systems

Every system trains its final network with each rate for a quarter of its updates, with one seed.
The table has the validation loss of each, in nats per token. The test text is not used. Losses
that `rates.json` in the folder of results holds are not measured again unless the system's settings
have changed, so one file collects the runs of several machines and days. An architecture that a
finished run in that folder found with the same settings is not searched again; `compare` reuses the
SuperNets and searches in the same --workdir.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.compare.experiments import Experiment, load_experiments
from automoe_jax.compare.results import RATES, load_record, record_path
from automoe_jax.compare.runs import run, settings
from automoe_jax.dependencies import completed, relevant
from automoe_jax.errors import UserError
from automoe_jax.report.tables import markdown_rows
from automoe_jax.runtime.files import read_json, write_json
from automoe_jax.search import choice
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir

SHARE = 4  # the runs train a quarter of the updates


def validation_loss(
    experiment: Experiment, rate: float, seed: int, root: Path, found: Mapping[str, Any] | None
) -> float | None:
    """Nats per token on the validation text after a quarter of the updates with this learning rate,
    of the architecture `found` (`Arch.to_dict`) or, with None, of one that is searched; None if the
    run failed.
    """
    folder = root / f"rate_{rate:g}_{experiment.name}-{seed}"
    train = experiment.config.retrain
    flags = [
        *origin(folder, found),
        f"--config.retrain.learning_rate={rate}",
        f"--config.retrain.steps={math.ceil(train.steps / SHARE)}",
        f"--config.retrain.warmup_steps={math.ceil(train.warmup_steps / SHARE)}",
    ]
    # Of a finished run, which `main` skips, it rejects other settings.
    if not run(experiment, seed, root, folder, flags):
        return None
    return runs.summary(Workdir(epath.Path(folder)).retrained).validation_nll


def found_before(experiment: Experiment, seed: int, results: Path) -> Mapping[str, Any] | None:
    """The architecture that a finished run in the folder `results` found with the same settings;
    None if there is no such run, or if training needs the SuperNet's weights.
    """
    name, now = f"{experiment.name}-{seed}", _depends(experiment, seed)
    if not record_path(results, name).exists() or now["retrain.init"] == "inherited":
        return None
    record = load_record(results, name)
    return None if _differ(completed(record.config), now) else record.arch


def origin(folder: Path, found: Mapping[str, Any] | None) -> list[str]:
    """The flags that say where the architecture comes from; a run that has begun goes on as it
    began, whether or not a record has come or gone since.
    """
    path = folder.with_name(f"arch_{folder.name}.json")
    begun = Workdir(epath.Path(folder)).config_path.exists()
    if found is not None and not begun:
        write_json(epath.Path(path), found)
    if path.exists() if begun else found is not None:
        return [
            "--config.stages=prepare,retrain",
            f"--{choice.SETTING}={path.resolve()}",
            "--config.retrain.candidates=1",
        ]
    return ["--config.stages=prepare,supernet,search,retrain"]


def recorded(file: Path, experiments: Sequence[Experiment], seed: int) -> dict[str, dict]:
    """The contents of `rates.json` without the losses of experiments whose settings have changed:
    by system, its settings and its losses by rate. A setting that is younger than the file had the
    effect that `completed` gives it.
    """
    known = read_json(epath.Path(file), dict) if file.exists() else {}
    for experiment in experiments:
        depends = _depends(experiment, seed)
        fresh = {"settings": depends, "losses": {}}
        measured = known.setdefault(experiment.name, fresh)["settings"]
        # before 2026-11-26 a digest stood there, which does not say what was measured
        if isinstance(measured, str) or _differ(completed(measured), depends):
            known[experiment.name] = fresh
    return known


def _differ(measured: Mapping[str, Any], depends: Mapping[str, Any]) -> bool:
    return any(measured[name] != value for name, value in depends.items())


def _depends(experiment: Experiment, seed: int) -> dict[str, Any]:
    """The settings that training depends on; the rate in the configuration is not one."""
    depends = relevant("retrain", settings(experiment, seed))
    depends.pop("retrain.learning_rate", None)
    return depends


def table(losses: Mapping[str, Mapping[str, float | None]], rates: Sequence[float]) -> str:
    """Losses by system and rate as Markdown, the lowest of each system in bold."""
    rows = []
    for name, by_rate in losses.items():
        known = [loss for loss in by_rate.values() if loss is not None]
        rows.append(
            [name, *(_cell(by_rate.get(f"{rate:g}"), min(known, default=0)) for rate in rates)]
        )
    return markdown_rows(["system", *(f"{rate:g}" for rate in rates)], rows)


def _cell(loss: float | None, lowest: float) -> str:
    if loss is None:
        return "–"
    return f"**{loss:.3f}**" if loss == lowest else f"{loss:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what is missing, writes `rates.json`, prints the table; returns 1 if a run failed."""
    parser = Parser("automoe_jax.compare.rates", "Learning rates by validation loss.")
    parser.add_argument("--configs", required=True, help="as for automoe_jax.compare")
    parser.add_argument("--rates", default="2e-3,4e-3,8e-3", help="separated by commas")
    parser.add_argument("--seed", type=int, default=1, help="of all runs (default: 1)")
    parser.add_argument("--workdir", required=True, help="folder of the runs")
    parser.add_argument(
        "--results", help=f"folder of {RATES}, which may hold others (default: WORKDIR/results)"
    )
    flags = parser.parse(arguments)
    try:
        rates = [float(rate) for rate in flags.rates.split(",")]
    except ValueError:
        raise UserError(
            f"--rates={flags.rates} must be numbers, separated by commas, as in 2e-3,4e-3"
        ) from None
    root = Path(flags.workdir)
    results = Path(flags.results) if flags.results else root / "results"
    if results.is_file():
        raise UserError(f"--results={results} is a file; name a folder")
    file = results / RATES
    experiments = load_experiments([path for path in flags.configs.split(",") if path])
    known = recorded(file, experiments, flags.seed)
    for experiment in experiments:
        losses = known[experiment.name]["losses"]
        found = found_before(experiment, flags.seed, results)
        for rate in rates:
            if losses.get(f"{rate:g}") is None:
                loss = validation_loss(experiment, rate, flags.seed, root, found)
                # another process may have added its own meanwhile
                known = recorded(file, experiments, flags.seed)
                losses = known[experiment.name]["losses"]
                losses[f"{rate:g}"] = loss
                write_json(epath.Path(file), known)
    print(table({name: one["losses"] for name, one in known.items()}, rates))
    failed = any(
        known[experiment.name]["losses"][f"{rate:g}"] is None
        for experiment in experiments
        for rate in rates
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(run_for_people(main, resumes=True))
