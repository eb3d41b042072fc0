"""Whether the runs of records begin now as they did: their first validation loss, then and now.

    python -m automoe_jax.compare.repeat --configs=configs/systems --seeds=1,2
    --results=docs/results/eight_epochs --workdir=runs/repeat

Trains the recorded architecture of every configuration and seed that the folder of results has a
record of, up to the first validation, in minutes instead of hours, and always anew, in folders
`begin_NAME-SEED`. On one kind of machine, with the same versions and number of threads, training
is exact: an equal loss is strong evidence that the program is the same so far, though it does not
cover later updates, a SuperNet or a search. A loss that differs in late digits is of sums rounded
in another order, as another number of threads rounds them; the whole run then ends elsewhere, as
with another seed. The test text is not used.
"""

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.compare.experiments import Experiment, load_experiments, seeds_of
from automoe_jax.compare.rates import origin
from automoe_jax.compare.results import Record, load_record, record_path
from automoe_jax.compare.runs import changes, run
from automoe_jax.errors import UserError
from automoe_jax.names import VALIDATION
from automoe_jax.report.tables import markdown_rows
from automoe_jax.runtime.machine import device
from automoe_jax.train.metrics import read_metrics
from automoe_jax.workdir import Workdir

COLUMNS = ("run", "date of the record", "updates", "nats then", "nats now", "equal")


@dataclasses.dataclass(frozen=True)
class Beginning:
    """A recorded run up to its first validation."""

    experiment: Experiment
    record: Record

    @property
    def update(self) -> int:
        """The update that the first validation follows."""
        return int(self.record.validation_nll[0][0])

    @property
    def then(self) -> float:
        """Nats per token of the record."""
        return self.record.validation_nll[1][0]

    def cells(self, now: float | None) -> list[str]:
        """As `COLUMNS` has them; `now` is None for a run that failed."""
        record, loss, equal = self.record, "–", "–"
        if now is not None:
            loss, equal = f"{now:.6f}", "yes" if now == self.then else "no"
        return [record.run, record.date, f"{self.update}", f"{self.then:.6f}", loss, equal]


def beginnings(
    experiments: Sequence[Experiment], seeds: Sequence[int], results: Path
) -> list[Beginning]:
    """Those of all experiments and seeds that the folder has a record of.

    Raises `UserError` if there are none, or for a record whose beginning depends on more than a
    short training: on settings that have changed since, a SuperNet's weights, or the number of
    updates.
    """
    found = []
    for seed in seeds:
        for experiment in experiments:
            if record_path(results, f"{experiment.name}-{seed}").exists():
                if changed := changes(experiment, seed, results):
                    raise UserError(f"{changed}; name the configuration that was trained")
                record = load_record(results, f"{experiment.name}-{seed}")
                found.append(Beginning(experiment, record))
                _check(found[-1])
    if not found:
        raise UserError(
            f"--results={results} has no record of these configurations with these seeds; name the"
            " folder that automoe_jax.compare wrote"
        )
    return found


def _check(one: Beginning) -> None:
    retrain, run = one.experiment.config.retrain, one.record.run
    if not one.record.validation_nll[0]:
        raise UserError(f"the record of {run} has no validation loss; leave it out")
    if retrain.init == "inherited":
        raise UserError(
            f"{run} starts from its SuperNet's weights; repeat it with automoe_jax.compare"
        )
    depends = retrain.schedule == "cosine" and retrain.steps > one.update
    if depends and one.update > retrain.warmup_steps:
        raise UserError(
            f"{run} was first validated after update {one.update}, beyond its"
            f" {retrain.warmup_steps} updates of warm-up, where the learning rate depends on the"
            " number of updates; repeat it with automoe_jax.compare"
        )


def validation_loss(one: Beginning, root: Path) -> float | None:
    """Nats per token now, from a new training that stops there; None if it failed."""
    folder = root / f"begin_{one.record.run}"
    if folder.exists():
        shutil.rmtree(folder)
    flags = [*origin(folder, one.record.arch), f"--config.retrain.steps={one.update}"]
    if not run(one.experiment, one.record.seed, root, folder, flags):
        return None
    metrics = read_metrics(Workdir(epath.Path(folder)).retrained)
    return next(record[VALIDATION] for record in metrics if VALIDATION in record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the beginnings and prints the table; returns 1 if one failed."""
    parser = Parser("automoe_jax.compare.repeat", "Whether recorded runs begin now as they did.")
    parser.add_argument("--configs", required=True, help="as for automoe_jax.compare")
    parser.add_argument("--seeds", default="1", help="numbers, separated by commas (default: 1)")
    parser.add_argument("--results", required=True, help="folder of the records")
    parser.add_argument("--workdir", required=True, help="folder of the short runs")
    flags = parser.parse(arguments)
    found = beginnings(
        load_experiments([path for path in flags.configs.split(",") if path]),
        seeds_of(flags.seeds),
        Path(flags.results),
    )
    losses = [validation_loss(one, Path(flags.workdir)) for one in found]
    rows = [one.cells(loss) for one, loss in zip(found, losses, strict=True)]
    print(markdown_rows(COLUMNS, rows))
    then = "; ".join(sorted({one.record.device for one in found}))
    print(f"then on {then}; now on {device()}")
    return int(None in losses)


if __name__ == "__main__":
    sys.exit(run_for_people(main, resumes=True))
