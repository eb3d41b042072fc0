"""Configurations of a comparison, which must share the text and the protocol of training and
measurement.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automoe_jax.compare.latencies import TIMED
from automoe_jax.config import Config, flatten, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.registry import import_file

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


def _check_alike(first: Experiment, other: Experiment) -> None:
    theirs = _common(other.config)
    for field, value in _common(first.config).items():
        if theirs[field] != value:
            raise UserError(
                f"config.{field} is {value!r} in {first.path} and {theirs[field]!r} in"
                f" {other.path}; systems that are compared must train on the same text for the same"
                " number of tokens and be measured alike"
            )


def _common(config: Config) -> dict[str, Any]:
    flat = flatten(dataclasses.asdict(config))
    return {name: value for name, value in flat.items() if name.startswith(_SETTINGS)}


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
