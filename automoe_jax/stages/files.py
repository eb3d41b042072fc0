"""Files that each stage reads and writes, and the stages that have to run as one is missing."""

from etils import epath

from automoe_jax import trained
from automoe_jax.config import STAGES, Config, stage_names
from automoe_jax.data.corpus import SPLITS
from automoe_jax.dependencies import TABLE
from automoe_jax.evaluation import results
from automoe_jax.search import choice, rival
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir

_SEARCHING = ("supernet", "search")
# Stages whose files are used after the run: by `translate`, by `compare`, or by a person. Files of
# the other stages are only needed while a later stage has to run.
_LASTING = ("prepare", "retrain", "evaluate", "report")


def written(stage: str, config: Config, workdir: Workdir) -> list[epath.Path]:
    """The files of a finished stage that others read."""
    if stage in _SEARCHING and not searches(config):
        return []
    searched = config.space.size() > 1
    match stage:
        case "prepare":
            texts = [workdir.text_path(split) for split in SPLITS if split != "train"]
            labels = [workdir.labels_path] if config.task == "classify" else []
            tokens = [workdir.tokens_path(split) for split in SPLITS]
            tokenizers = [workdir.tokenizer_path]
            if not config.data.joint_vocabulary:
                tokenizers.append(workdir.target_tokenizer_path)
            return [*tokenizers, *labels, *tokens, *texts, workdir.statistics_path]
        case "supernet":
            return runs.results(workdir.supernet) if searched else []
        case "search":
            records = [workdir.candidates_path, workdir.pareto_path] if searched else []
            rivals = [workdir.rival_arch_path] if rival.subspace(config) else []
            return [*records, *rivals, workdir.arch_path]
        case "retrain":
            several = config.retrain.candidates > 1
            listed = [workdir.contenders_path] if several else []
            chosen = [workdir.chosen_arch_path]
            if config.retrain.arch == choice.BEST and not several:
                chosen = []
            compared = [
                path
                for role in trained.compared(config, workdir)
                for path in runs.results(trained.folder(workdir, role))
            ]
            return [*listed, *chosen, *runs.results(workdir.retrained), *compared]
        case "evaluate":
            return [workdir.results_path, *results.row_paths(workdir)]
        case _:
            return [workdir.root / name for name in TABLE[stage].results]


def read(stage: str, config: Config, workdir: Workdir) -> list[epath.Path]:
    """The files of other stages without which a stage cannot run, or would leave something out."""
    archs = [workdir.rival_arch_path, workdir.arch_path] if searches(config) else []
    before = {name: written(name, config, workdir) for name in STAGES[: STAGES.index(stage)]}
    if stage == "retrain":
        inherited = before["supernet"] if config.retrain.init == "inherited" else []
        several = config.retrain.candidates > 1
        wanted = several or choice.is_searched(config.retrain.arch)
        searched = before["search"] if wanted else []
        return [*before["prepare"], *inherited, *searched, *archs]
    if stage == "evaluate":
        return [
            *before["prepare"],
            *before["supernet"],
            *before["retrain"],
            *archs,
        ]
    if stage == "report":
        return [*before["prepare"], *before["search"], *before["evaluate"]]
    return [path for paths in before.values() for path in paths]


def searches(config: Config) -> bool:
    """Whether the architecture that is trained comes from a SuperNet and a search: not where
    `config.retrain.arch` is a file and `config.stages` leaves both out.
    """
    stages = set(_SEARCHING) & set(stage_names(config))
    given = config.retrain.arch != choice.BEST and not choice.is_searched(config.retrain.arch)
    return bool(stages) or not given or config.retrain.init == "inherited"


def unfinished(config: Config, workdir: Workdir) -> dict[str, epath.Path | None]:
    """The stages that have to run: those that have not finished, with None, and those of which a
    file that is still needed is missing, with that file.
    """
    stages = STAGES if searches(config) else tuple(s for s in STAGES if s not in _SEARCHING)
    needed = {path for stage in _LASTING for path in written(stage, config, workdir)}
    if searches(config):
        needed |= {workdir.rival_arch_path, workdir.arch_path}
    missing_files: dict[str, epath.Path | None] = {}
    for stage in reversed(stages):
        missing = None
        if workdir.is_done(stage):
            files = written(stage, config, workdir)
            missing = next((path for path in files if path in needed and not path.exists()), None)
            if missing is None:
                continue
        missing_files[stage] = missing
        needed |= set(read(stage, config, workdir))
    return missing_files
