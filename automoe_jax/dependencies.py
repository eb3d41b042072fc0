"""Dependencies of the stages: the settings that each one's results depend on, and its files.

A stage depends on its own settings and on those of all stages before it, since it reads their
results. A setting that no stage depends on changes neither weights nor scores: it may have another
value whenever a run continues.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from automoe_jax.config import STAGES, Config, flatten
from automoe_jax.names import ARCH_FILE
from automoe_jax.search.limits import COSTS


class Stage(NamedTuple):
    """Settings and files of one stage; files are relative to the workdir."""

    # names of settings, or of groups with a final dot, in addition to those of earlier stages
    settings: tuple[str, ...]
    results: tuple[str, ...]  # files and folders that the stage writes
    # files and folders whose contents an interrupted run of the stage continues from
    progress: tuple[str, ...] = ()
    # more settings, where `supernet.within_limits` is on
    limits: tuple[str, ...] = ()


_LIMITS = (
    *(f"search.{cost.limit}" for cost in COSTS.values()),
    "search.limits",
    "search.device.",
    "search.source_length",
    "search.target_length",
)

TABLE: Mapping[str, Stage] = {
    "prepare": Stage(("task", "data."), ("data",)),
    "supernet": Stage(
        ("seed", "space.", "model.", "router.", "supernet."),
        ("supernet",),
        ("supernet/checkpoints", "supernet/final"),
        _LIMITS,
    ),
    "search": Stage(("search.",), ("search", ARCH_FILE), ("search", ARCH_FILE)),
    "retrain": Stage(
        ("retrain.",),
        ("retrain",),
        (
            "retrain/candidates",
            *(
                f"retrain/{run}/{part}"
                for run in ("subtransformer", "dense", "rival")
                for part in ("checkpoints", "final")
            ),
        ),
    ),
    "evaluate": Stage(("evaluate.",), ("evaluate",), ("evaluate",)),
    "report": Stage((), ("report.html", "report.md")),
}

# Settings without influence on results, sums in another order aside: what to run now, which code
# to import, on which devices, what is computed again to save memory, what is logged, and
# checkpoints that no average uses.
FREE = frozenset(
    {"stages", "plugins", "fsdp", "remat", "mesh.data", "mesh.expert", "mesh.model"}
    | {
        f"{training}.{name}"
        for training in ("supernet", "retrain")
        for name in ("log_every", "evaluate_every", "keep_best")
    }
)


def depends(stage: str, setting: str, settings: Mapping[str, Any]) -> bool:
    """Whether the results of a stage depend on a setting, directly or by the stages before it,
    where the flat settings are `settings`.
    """
    before = [TABLE[one] for one in STAGES[: STAGES.index(stage) + 1]]
    names = tuple(name for one in before for name in one.settings)
    if settings["supernet.within_limits"]:
        names += tuple(name for one in before for name in one.limits)
    groups = tuple(name for name in names if name.endswith("."))
    return setting not in FREE and (setting in names or setting.startswith(groups))


def relevant(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The flat settings that the results of a stage depend on."""
    return {name: value for name, value in settings.items() if depends(stage, name, settings)}


def outdated(
    changed: Collection[str], begun: Collection[str], settings: Mapping[str, Any]
) -> tuple[str, ...]:
    """The stages among those that have results, finished or not, which have to run again when some
    settings change to `settings`; in the order of the pipeline.
    """
    return tuple(
        stage
        for stage in STAGES
        if stage in begun and any(depends(stage, setting, settings) for setting in changed)
    )


def settings_of(config: Config) -> dict[str, Any]:
    """The flat settings of a configuration, after a round trip through a file."""
    return json.loads(json.dumps(flatten(dataclasses.asdict(config))))


def completed(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings with those that were added to the code since they were recorded: with the
    values that have the same effect as the code of that time, otherwise with their defaults.

    Before `supernet.within_limits` existed, the SuperNet was trained in the whole space, which is
    what the limits admit where there are none; nor was a dense rival searched. Sandwich sampling
    distilled from the first update on, without cross entropy. The hidden units of the experts were
    dropped like all others, scaled by the expert's width instead of the embedding's.
    """
    limited = any(recorded.get(f"search.{cost.limit}") for cost in COSTS.values())
    earlier: dict[str, Any] = (
        {"supernet.within_limits": False, "search.dense_rival": False} if limited else {}
    )
    if recorded.get("supernet.sampling") == "sandwich":
        earlier |= {"supernet.distillation_weight": 1.0, "supernet.distillation_warmup": 0.0}
    if "model.dropout" in recorded:
        earlier["model.activation_dropout"] = recorded["model.dropout"]
    return settings_of(Config()) | earlier | dict(recorded)
