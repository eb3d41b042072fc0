"""Configurations of a comparison, which must share the text and the protocol of training and
measurement.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automoe_jax.command.configuration import ConfigFile, load_module, read_config
from automoe_jax.compare.latencies import TIMED
from automoe_jax.config import Config, flatten
from automoe_jax.errors import UserError

# Settings that a fair comparison shares: names of fields and prefixes of names.
_SETTINGS = (
    "task",
    "data.",
    "retrain.steps",
    "retrain.tokens_per_batch",
    "evaluate.length_penalty",
    "evaluate.max_pairs",
    *TIMED.values(),
)
# Of these, settings in which the records of several machines may differ: where files are, and how
# often a latency was timed.
_OF_A_MACHINE = (
    "data.path",
    "data.target_path",
    "data.validation_files",
    "data.test_files",
    "data.tokenizer",
    "data.target_tokenizer",
    TIMED["runs"],
)
_RULE = "compared systems must share text, number of tokens and settings of evaluation"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One configuration file."""

    name: str  # the file's
    path: str
    config: Config


def load_experiments(paths: Sequence[str]) -> list[Experiment]:
    """The configurations of files and folders; raises `UserError` if two do not train under the
    same protocol.
    """
    experiments = [experiment for path in paths for experiment in _load(path)]
    if not experiments:
        raise UserError(
            f"--configs={','.join(paths)} names no configuration; name files with a get_config(),"
            " or a folder of them"
        )
    names = [experiment.name for experiment in experiments]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"--configs names two files called {name}; their runs would mix, so rename one"
            )
    first, *others = experiments
    for other in others:
        _check_alike(first, other)
    return experiments


def seeds_of(text: str) -> list[int]:
    """The numbers in a --seeds; raises `UserError` for anything else."""
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds={text} must be whole numbers, separated by commas") from None


def _check_alike(first: Experiment, other: Experiment) -> None:
    here, there = (flatten(dataclasses.asdict(one.config)) for one in (first, other))
    if field := _unlike(here, there):
        raise UserError(
            f"config.{field} is {here[field]!r} in {first.path} and {there[field]!r} in"
            f" {other.path}; {_RULE}"
        )


def check_protocol(configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `UserError` if two of these flat configurations, by the name of the run, do not share
    the text and the protocol; `dependencies.completed` gives settings that are younger than a run.
    """
    for first, other in itertools.pairwise(configs):
        here, there = configs[first], configs[other]
        if field := _unlike(here, there, _OF_A_MACHINE):
            raise UserError(
                f"{other} has config.{field}={there[field]!r} and {first} {here[field]!r};"
                f" keep their files in separate folders, since {_RULE}"
            )


def _unlike(
    here: Mapping[str, Any], there: Mapping[str, Any], free: Sequence[str] = ()
) -> str | None:
    """The first shared setting, except those `free`, in which two flat configurations differ."""
    shared = (field for field in here if field.startswith(_SETTINGS) and field not in free)
    return next((field for field in shared if here[field] != there[field]), None)


def _load(name: str) -> list[Experiment]:
    """The experiments of a file, or those of all the files of a folder that have a get_config().

    A file with a table SYSTEMS holds one experiment for each entry; "configs/systems" is also the
    file configs/systems.py.
    """
    file = ConfigFile.parse(name)
    if Path(f"{file.path}.py").is_file():
        file = file._replace(path=f"{file.path}.py")
    elif Path(file.path).is_dir():
        inside = sorted(Path(file.path).glob("*.py"))
        return [
            experiment
            for path in inside
            if "get_config" in load_module(str(path))
            for experiment in _load(str(path))
        ]
    if not Path(file.path).is_file():
        raise UserError(
            f"--configs names {file.path}, which is not there; name configuration files or folders,"
            " separated by commas"
        )
    module = load_module(file.path)
    if "get_config" not in module:
        raise UserError(
            f"{file.path} has no get_config(), so it names no configuration; leave it out of"
            " --configs, or define one, as configs/demo.py does"
        )
    systems = module.get("SYSTEMS")
    arguments = list(systems) if systems and not file.argument else [file.argument]
    return [_experiment(file._replace(argument=one), bool(systems)) for one in arguments]


def _experiment(file: ConfigFile, is_system: bool) -> Experiment:
    """A system is called by its own name, any other configuration by its file's as well."""
    stem = "" if is_system else Path(file.path).stem
    name = "-".join(filter(None, [stem, file.argument]))
    return Experiment(name, str(file), read_config(file))
