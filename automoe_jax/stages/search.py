"""search: the SuperNet → every candidate with its loss and cost, the Pareto front, `arch.json`, and
the best dense architecture under the same limits.
"""

import functools
import math
import sys

from etils import epath
from tqdm import tqdm

from automoe_jax.config import Config
from automoe_jax.errors import UserError
from automoe_jax.latency.search import (
    finalists,
    is_timed_here,
    search_conditions,
    searched_within,
)
from automoe_jax.model.network import Spec
from automoe_jax.runtime.files import write_json
from automoe_jax.runtime.interruption import stop_requests, stopped
from automoe_jax.runtime.processes import is_first, wait_for_all
from automoe_jax.search import history, hypervolume, pareto, rival
from automoe_jax.search.algorithms import ALGORITHMS
from automoe_jax.search.candidate import Candidate
from automoe_jax.search.evaluator import inherited_loss
from automoe_jax.search.limits import CostFunction, check_limits, cost_function, limits
from automoe_jax.search.stopping import Scorer
from automoe_jax.space import SearchSpace
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Resumes after the last recorded candidate; writes the best architecture within the limits, or
    the only one.

    Raises `Interrupted` after Ctrl-C or SIGTERM, once the candidate being scored is recorded.
    """
    settings, spec = config.search, workdir.spec(config)
    if config.space.size() == 1:
        if is_first():
            write_json(workdir.arch_path, config.space.largest().to_dict())
        print("search: the space has one architecture, which is the result", flush=True)
        return

    cost = cost_function(search_conditions(config, workdir, spec))
    check_limits(config.space, settings, cost)
    score = _scorer(config, workdir)
    candidates = _candidates(config, config.space, workdir.candidates_path, cost, score)
    dense = rival.subspace(config)
    rivals = _candidates(config, dense, workdir.rival_candidates_path, cost, score) if dense else []
    chosen = _chosen(config, spec, candidates, workdir.finalists_path)
    if is_first():
        write_json(
            workdir.pareto_path,
            [one.to_dict() for one in pareto.pareto_front(candidates, settings.objective)],
        )
        reference = _reference(config, cost, spec.output_size)
        write_json(workdir.hypervolume_path, hypervolume.to_json(candidates, reference))
        write_json(workdir.arch_path, chosen.arch.to_dict())
    _print_result("search", candidates, chosen)
    if rivals:
        best = _chosen_rival(config, spec, rivals, workdir.rival_finalists_path)
        if is_first():
            write_json(workdir.rival_arch_path, best.arch.to_dict())
        _print_result("search among dense architectures", rivals, best)


def _print_result(title: str, candidates: list[Candidate], chosen: Candidate) -> None:
    print(
        f"{title}: {len(candidates)} candidates, the best has loss {chosen.loss:.3f} at"
        f" {chosen.flops:.4g} FLOPs",
        flush=True,
    )


def _scorer(config: Config, workdir: Workdir) -> Scorer:
    supernet = runs.load(workdir.supernet, workdir.spec(config))
    return inherited_loss(supernet, config, workdir.tokens("validation"))


def _candidates(
    config: Config, space: SearchSpace, path: epath.Path, cost: CostFunction, score: Scorer
) -> list[Candidate]:
    """All candidates of the search in `space`; those recorded at `path` are not scored again, new
    ones are recorded there.
    """
    settings = searched_within(config, space, cost)
    algorithm = ALGORITHMS.find(settings.algorithm)
    known = {candidate.arch: candidate.score for candidate in history.load(path)}
    # all processes load the same candidates before the first one adds to them
    wait_for_all("candidates")
    with (
        stop_requests("candidate") as requested,
        tqdm(
            total=algorithm.max_candidates(settings),
            desc="search" if space == config.space else "search, dense",
            unit="candidate",
            file=sys.stderr,
            dynamic_ncols=True,
        ) as bar,
    ):

        def progress(iteration: int, done: int, lowest: float) -> None:
            bar.update(done - bar.n)
            bar.set_postfix_str(f"generation {iteration}, loss {lowest:.3f}", refresh=False)
            if number := requested():
                raise stopped(number, f"candidate {done} of the search, which is recorded")

        record = functools.partial(history.append, path) if is_first() else lambda _: None
        return algorithm.search(
            space,
            settings,
            score=score,
            cost=cost,
            seed=config.seed,
            record=record,
            known=known,
            progress=progress,
        )


def _reference(config: Config, cost: CostFunction, output_size: int) -> hypervolume.Reference:
    """The loss of even guesses, and the limit on the cost or its largest value in the space."""
    name = config.search.objective
    largest = cost(config.space.largest())[name]
    return hypervolume.Reference(
        math.log(output_size), limits(config.search).get(name, largest), name
    )


def _chosen_rival(
    config: Config, spec: Spec, candidates: list[Candidate], path: epath.Path
) -> Candidate:
    """As `_chosen`; where no finalist is within the limits when measured, the best as predicted."""
    try:
        return _chosen(config, spec, candidates, path)
    except UserError:
        best = pareto.best(candidates)
        print("search: no dense finalist is within the limit of latency when measured", flush=True)
        return best


def _chosen(config: Config, spec: Spec, candidates: list[Candidate], path: epath.Path) -> Candidate:
    """The best candidate; under a limit of latency on this device, the best by measurement, with
    the finalists in a file at `path`.
    """
    best = pareto.best(candidates)
    if not is_timed_here(config) or not is_first():
        return best
    measured = finalists(config, spec, candidates)
    write_json(path, [one.to_json() for one in measured])
    for one in measured:
        print(
            f"search: finalist with loss {one.candidate.loss:.3f}: predicted"
            f" {one.predicted:.3g} ms, measured {one.measured:.3g} ms",
            flush=True,
        )
    return measured[0].candidate
