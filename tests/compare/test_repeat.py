"""Which recorded runs can be repeated up to their first validation."""

import dataclasses
import pathlib
from typing import Any

import pytest
from etils import epath

from automoe_jax.compare.experiments import Experiment, load_experiments, seeds_of
from automoe_jax.compare.repeat import beginnings
from automoe_jax.dependencies import settings_of
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import read_json, write_json

ROOT = pathlib.Path(__file__).parents[2]
RECORD = ROOT / "docs" / "results" / "eight_epochs" / "dense-1.json"


def dense(**retrain: object) -> Experiment:
    (experiment,) = load_experiments([f"{ROOT / 'configs' / 'systems.py'}:dense"])
    config = experiment.config
    changed = dataclasses.replace(config, retrain=dataclasses.replace(config.retrain, **retrain))
    return dataclasses.replace(experiment, config=changed)


def recorded(folder: pathlib.Path, experiment: Experiment, **more: Any) -> pathlib.Path:
    """The committed record in a folder of its own, as if it had trained with these settings."""
    record = read_json(epath.Path(RECORD))
    config = record["config"] | settings_of(experiment.config)
    own = {"seed": 1, "retrain.dense_baseline": False, "search.dense_rival": False}
    write_json(epath.Path(folder / "dense-1.json"), record | {"config": config | own} | more)
    return folder


def test_a_recorded_run_begins_with_its_first_validation() -> None:
    (one,) = beginnings([dense()], [1, 7], RECORD.parent)
    assert one.update == 100
    assert one.cells(one.then)[2:] == ["100", f"{one.then:.6f}", f"{one.then:.6f}", "yes"]
    assert one.cells(one.then + 1e-9)[-1] == "no", "losses are compared in all digits"
    assert one.cells(None)[-2:] == ["–", "–"]


@pytest.mark.parametrize(
    ("retrain", "more", "message"),
    [
        ({}, {"validation_nll": [[], []]}, "the record of dense-1 has no validation loss"),
        ({"init": "inherited"}, {}, "dense-1 starts from its SuperNet's weights"),
        ({"warmup_steps": 50}, {}, "after update 100, beyond its 50 updates of warm-up"),
    ],
)
def test_runs_that_a_short_training_does_not_repeat(
    tmp_path: pathlib.Path, retrain: dict[str, object], more: dict[str, Any], message: str
) -> None:
    experiment = dense(**retrain)
    with pytest.raises(UserError, match=message):
        beginnings([experiment], [1], recorded(tmp_path, experiment, **more))


def test_another_configuration_is_no_repetition(tmp_path: pathlib.Path) -> None:
    recorded(tmp_path, dense())
    with pytest.raises(UserError, match=r"are of another configuration: .*learning_rate"):
        beginnings([dense(learning_rate=0.5)], [1], tmp_path)


def test_a_folder_without_such_records_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="has no record of these configurations"):
        beginnings([dense()], [1], tmp_path)


def test_seeds_are_whole_numbers() -> None:
    assert seeds_of("1,2") == [1, 2]
    with pytest.raises(UserError, match="--seeds=1,b must be whole numbers"):
        seeds_of("1,b")
