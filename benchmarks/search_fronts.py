"""Fronts of the search algorithms with a trained SuperNet: equal numbers of evaluations, several
seeds.

    make demo && python -m benchmarks.search_fronts --workdir=runs/demo --json=fronts.json

The workdir must hold a trained SuperNet; nothing in it changes. Hypervolumes are shares of the
rectangle from (0, 0) to the loss of even guesses and the limit on the cost, or its largest value.
Intervals of 95 % are Student's over the seeds; differences are paired by seed, which gives all
algorithms the same first population.
"""

import argparse
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath
from scipy import stats
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.config import SearchConfig
from automoe_jax.errors import UserError
from automoe_jax.search.algorithms import ALGORITHMS
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.evaluator import inherited_loss
from automoe_jax.search.hypervolume import Reference, hypervolume
from automoe_jax.search.limits import (
    Conditions,
    cost_function,
    limits,
    needs_device,
    without_device,
)
from automoe_jax.search.pareto import best
from automoe_jax.search.stopping import Trial
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir
from benchmarks.harness import Row, parser, run

ALGORITHMS_COMPARED = ("nsga2", "evolution", "random", "knapsack", "cost_ranking")


def measure(flags: argparse.Namespace) -> list[Row]:
    """Searches with every algorithm and seed on one SuperNet."""
    if flags.seeds < 2:
        raise UserError(f"--seeds={flags.seeds} must be at least 2, for an interval")
    workdir = Workdir(epath.Path(flags.workdir))
    if not runs.is_complete(workdir.supernet):
        raise UserError(f"--workdir={workdir.root} holds no trained SuperNet; run make demo first")
    config = workdir.config()
    settings = _settings(config.search, flags)
    if needs_device(settings):
        raise UserError(
            f"--workdir={workdir.root} limits costs of a device; set --max_flops instead"
        )
    config = dataclasses.replace(config, search=settings)
    spec = workdir.spec(config)
    cost = cost_function(Conditions(settings, config.router, spec.output_size, spec.norm == "pre"))
    scorer = inherited_loss(runs.load(workdir.supernet, spec), config, workdir.tokens("validation"))
    one_score = functools.cache(lambda arch: next(iter(scorer([Trial(arch)]))))
    largest = cost(config.space.largest())[settings.objective]
    most = limits(settings).get(settings.objective, largest)
    reference = Reference(math.log(spec.output_size), most, settings.objective)

    def searched(name: str, seed: int, bar: tqdm) -> list[Candidate]:
        def score(trials: Sequence[Trial]) -> list[Score]:
            return [_counted(one_score, trial.arch, bar) for trial in trials]

        return ALGORITHMS.find(name).search(
            config.space,
            settings,
            score=score,
            cost=cost,
            seed=seed,
            record=lambda candidate: None,
            known={},
            progress=lambda iteration, done, lowest: None,
        )

    with tqdm(desc="search_fronts", unit="candidate", file=sys.stderr) as bar:
        searches_of = {
            name: [searched(name, seed, bar) for seed in range(flags.seeds)]
            for name in ALGORITHMS_COMPARED
        }
    return _rows(searches_of, reference, flags.seeds)


def _settings(search: SearchConfig, flags: argparse.Namespace) -> SearchConfig:
    """The settings of the workdir's search with those of this benchmark. Nothing is stopped early,
    so that all evaluations are alike.
    """
    population = flags.population
    if flags.max_flops:
        search = dataclasses.replace(without_device(search), max_flops=flags.max_flops)
    return dataclasses.replace(
        search,
        iterations=flags.generations,
        population=population,
        parents=min(search.parents, population),
        mutations=population // 2,
        crossovers=population - population // 2,
        validation_tokens=flags.tokens,
        stop_early=0.0,
    )


def _counted(one_score: Callable[[Arch], Score], arch: Arch, bar: tqdm) -> Score:
    bar.update()
    return one_score(arch)


def _rows(
    searches_of: dict[str, list[list[Candidate]]], reference: Reference, seeds: int
) -> list[Row]:
    """One row for each algorithm, and one for each difference that the docs state."""
    volumes = {
        name: np.array([100 * hypervolume(one, reference) for one in searches])
        for name, searches in searches_of.items()
    }
    losses = {
        name: np.array([best(one).loss for one in searches])
        for name, searches in searches_of.items()
    }
    title = f"Fronts of loss and {reference.name}, {seeds} seeds (mean, 95 % interval)"
    rows = [
        Row(
            title,
            {
                "algorithm": name,
                "evaluations": str(len(searches[0])),
                "hypervolume %": _interval(volumes[name], 2),
                "lowest loss": _interval(losses[name], 4),
            },
            figures={"hypervolume": volumes[name].mean(), "loss": losses[name].mean()},
        )
        for name, searches in searches_of.items()
    ]
    differences = [("nsga2", "evolution"), ("evolution", "random"), ("nsga2", "random")]
    differences += [("evolution", "knapsack"), ("evolution", "cost_ranking")]
    differences.append(("nsga2", "cost_ranking"))
    return rows + [
        Row(
            "Differences, paired by seed (mean, 95 % interval)",
            {
                "algorithms": f"{one} − {other}",
                "hypervolume %": _interval(volumes[one] - volumes[other], 2),
                "lowest loss": _interval(losses[one] - losses[other], 4),
            },
        )
        for one, other in differences
    ]


def _interval(values: np.ndarray, digits: int) -> str:
    """As in "0.61 [0.60, 0.62]"."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    mean = values.mean()
    return f"{mean:.{digits}f} [{mean - half:.{digits}f}, {mean + half:.{digits}f}]"


if __name__ == "__main__":
    arguments = parser("benchmarks.search_fronts", __doc__)
    arguments.add_argument("--workdir", default="runs/demo", help="a run with a trained SuperNet")
    arguments.add_argument("--seeds", type=int, default=5, help="searches with each algorithm")
    arguments.add_argument("--generations", type=int, default=6, help="generations after the first")
    arguments.add_argument("--population", type=int, default=20, help="candidates of a generation")
    arguments.add_argument(
        "--max_flops", type=float, default=0.0, help="limit instead of those of the workdir"
    )
    arguments.add_argument(
        "--tokens", type=int, default=2048, help="validation tokens of a candidate"
    )
    run(measure, arguments)
