"""report: everything in the workdir → `report.html` and `report.md`."""

import datetime
import shlex
import sys

from automoe_jax import trained
from automoe_jax.config import STAGES, Config
from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.evaluation import results
from automoe_jax.report import ReportContents, Role, write_report
from automoe_jax.runtime.files import read_json
from automoe_jax.runtime.machine import device, versions
from automoe_jax.search import history
from automoe_jax.search.candidate import Candidate
from automoe_jax.search.limits import COSTS
from automoe_jax.train.metrics import read_metrics
from automoe_jax.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes the report and prints its paths."""
    evaluated = results.load(workdir)
    arch, search = workdir.arch(), config.search
    candidates, front = _searched(workdir)
    curves = {Role.RETRAINED: read_metrics(workdir.retrained)}
    if supernet := read_metrics(workdir.supernet):
        curves = {Role.SUPERNET: supernet, **curves}
    for role in trained.compared(config, workdir):
        curves[role] = read_metrics(trained.folder(workdir, role))
    contents = ReportContents(
        title=f"automoe_jax: {_what(config)}",
        arch=arch,
        space=config.space,
        config=read_json(workdir.config_path, dict),
        command=_command(),
        date=datetime.date.today().isoformat(),
        device=device(),
        versions=versions(),
        seed=config.seed,
        data_statistics=read_json(workdir.statistics_path, dict),
        removals=read_json(workdir.cleaning_path, list) if workdir.cleaning_path.exists() else [],
        costs=vars(
            costs(
                arch,
                search.source_length,
                search.target_length,
                evaluated.output_size,
                router=trained.router_costs(config, workdir, Role.RETRAINED),
                pre_norm=config.model.norm == "pre",
            )
        ),
        curves=curves,
        candidates=candidates,
        pareto=front,
        objective=search.objective,
        hypervolume=read_json(workdir.hypervolume_path, dict) if candidates else {},
        limits={
            cost.limit: getattr(search, cost.limit)
            for cost in COSTS.values()
            if hasattr(search, cost.limit) and cost.limit != "limits"
        },
        results=evaluated.rows,
        samples=evaluated.samples,
        stage_seconds={
            stage: seconds for stage in STAGES if (seconds := workdir.seconds(stage)) is not None
        },
    )
    page, text = write_report(contents, workdir.root)
    print(f"report: {page} and {text}", flush=True)


def _searched(workdir: Workdir) -> tuple[list[Candidate], list[Candidate]]:
    """The candidates of the search and its Pareto front; raises `UserError` if members of the front
    are missing among the candidates.
    """
    path = workdir.pareto_path
    candidates, front = history.load(workdir.candidates_path), history.load_front(path)
    archs = {one.arch for one in candidates}
    if lost := [one for one in front if one.arch not in archs]:
        raise UserError(
            f"{workdir.candidates_path} lacks {len(lost)} of the {len(front)} candidates in"
            f" {path.name}; remove {workdir.done_path('search')} and run the same command"
            " again, which scores them again"
        )
    return candidates, front


def _what(config: Config) -> str:
    data = config.data
    named = data.name or data.source
    return (
        f"{named}, classified"
        if config.task == "classify"
        else f"{named} {data.source_language}-{data.target_language}"
    )


def _command() -> str:
    return "python -m automoe_jax.main " + " ".join(
        shlex.quote(argument) for argument in sys.argv[1:]
    )
