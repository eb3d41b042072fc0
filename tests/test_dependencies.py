"""Settings that may change in a workdir, and the stages that a change sets aside."""

import dataclasses
import pathlib
from typing import Any

import pytest

from automoe_jax.config import STAGES, Config, flatten, from_flat
from automoe_jax.dependencies import FREE, TABLE, completed, depends, outdated, relevant
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import read_json, write_json
from automoe_jax.workdir import Workdir, open_workdir

SETTINGS = flatten(dataclasses.asdict(Config()))


def changed(**settings: object) -> Config:
    return from_flat(
        SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}
    )


def with_results(root: pathlib.Path, *finished: str, half: str = "") -> Workdir:
    """A workdir of the defaults in which these stages have results, `half` unfinished ones."""
    workdir = open_workdir(root, Config())
    for stage in (*finished, *filter(None, [half])):
        for name in TABLE[stage].progress or TABLE[stage].results:
            path = workdir.root / name
            write_json(path if path.suffix else path / "part.json", stage)
    for stage in finished:
        workdir.mark_done(stage, 1.0)
    return workdir


def test_every_setting_is_free_or_belongs_to_one_stage() -> None:
    for name in SETTINGS:
        owners = [
            stage
            for stage in STAGES
            if name in TABLE[stage].settings
            or name.startswith(tuple(group for group in TABLE[stage].settings if group[-1] == "."))
        ]
        assert len(owners) == 1 or (name in FREE and not owners), name
    assert SETTINGS.keys() >= FREE
    assert list(TABLE) == list(STAGES)


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ("data.vocab_size", STAGES),
        ("task", STAGES),
        ("seed", STAGES[1:]),
        ("supernet.steps", STAGES[1:]),
        ("router.kind", STAGES[1:]),
        ("supernet.within_limits", STAGES[1:]),
        ("search.max_flops", STAGES[1:]),
        ("search.target_length", STAGES[1:]),
        ("search.population", STAGES[2:]),
        ("retrain.checkpoint_every", STAGES[3:]),
        ("evaluate.beam_size", STAGES[4:]),
        ("supernet.log_every", ()),
        ("retrain.evaluate_every", ()),
        ("mesh.expert", ()),
        ("stages", ()),
    ],
)
def test_stages_that_depend_on_a_setting(setting: str, stages: tuple[str, ...]) -> None:
    assert tuple(stage for stage in STAGES if depends(stage, setting, SETTINGS)) == stages
    assert outdated([setting], STAGES, SETTINGS) == stages
    some = tuple(one for one in stages if one in STAGES[:3])
    assert outdated([setting], STAGES[:3], SETTINGS) == some


@pytest.mark.parametrize("setting", ["search.max_flops", "search.limits", "search.source_length"])
def test_a_supernet_of_the_whole_space_serves_searches_under_other_limits(setting: str) -> None:
    whole = SETTINGS | {"supernet.within_limits": False}
    assert outdated([setting], STAGES, whole) == STAGES[2:]
    assert setting not in relevant("supernet", whole)
    assert setting in relevant("supernet", SETTINGS)


def test_settings_that_two_runs_share_for_a_stage() -> None:
    search = relevant("search", SETTINGS)
    assert {"data.path", "seed", "supernet.steps", "search.max_flops"} <= search.keys()
    assert not {"retrain.steps", "supernet.log_every", "stages"} & search.keys()


def test_free_settings_change_whatever_is_finished(tmp_path: pathlib.Path) -> None:
    with_results(tmp_path, *STAGES)
    workdir = open_workdir(tmp_path, changed(supernet__log_every=7, mesh__expert=2))
    assert workdir.config().supernet.log_every == 7
    assert all(workdir.is_done(stage) for stage in STAGES)


def test_other_settings_change_while_no_result_depends_on_them(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_results(tmp_path, "prepare", "supernet")
    workdir = open_workdir(tmp_path, changed(search__stop_early=3.0, retrain__steps=7))
    assert workdir.config().search.stop_early == 3.0
    assert "search.stop_early is 5.0 so far and 3.0 from now on" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"supernet\.steps is 1000 there and 7 here"):
        open_workdir(tmp_path, changed(supernet__steps=7))


def test_a_preparation_that_failed_starts_over_with_other_settings(tmp_path: pathlib.Path) -> None:
    with_results(tmp_path, half="prepare")
    assert open_workdir(tmp_path, changed(data__vocab_size=99)).config().data.vocab_size == 99


@pytest.mark.parametrize(
    ("half", "setting"),
    [
        ("supernet", "supernet.learning_rate"),
        ("search", "search.mutation_prob"),
        ("retrain", "retrain.average_checkpoints"),
        ("evaluate", "evaluate.length_penalty"),
    ],
)
def test_an_interrupted_stage_does_not_continue_with_other_settings(
    tmp_path: pathlib.Path, half: str, setting: str
) -> None:
    before = STAGES[: STAGES.index(half)]
    workdir = with_results(tmp_path, *before, half=half)
    other = from_flat(SETTINGS | {setting: 0.25 if "average" not in setting else 5})
    with pytest.raises(UserError, match=rf"{setting} is .* add --redo to run {half} again"):
        open_workdir(tmp_path, other)
    assert workdir.config() == Config(), "a refused change is not recorded"
    open_workdir(tmp_path, other, redo=True)
    assert workdir.config() == other
    assert not workdir.has_begun(half)
    assert all(workdir.is_done(stage) for stage in before)


def test_redo_moves_aside_what_depends_and_nothing_else(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = with_results(tmp_path, *STAGES)
    other = changed(search__stop_early=3.0)
    with pytest.raises(UserError) as raised:
        open_workdir(tmp_path, other)
    assert "run search, retrain, evaluate and report again" in str(raised.value)
    assert "search.stop_early is 5.0 there and 3.0 here" in str(raised.value)
    for number in ("1", "2"):
        open_workdir(tmp_path, other, redo=True)
        said = capsys.readouterr().out
        aside = workdir.root / "set_aside" / number
        assert str(aside) in said
        assert "search, retrain, evaluate and report will run again" in said
        assert [stage for stage in STAGES if workdir.has_begun(stage)] == ["prepare", "supernet"]
        for name in ("search/part.json", "arch.json", "report.html"):
            assert not (workdir.root / name).exists()
        assert read_json(aside / "arch.json") == "search"
        assert read_json(aside / "stages" / "retrain.json")["seconds"] == 1.0
        assert workdir.config() == other
        for stage in STAGES[2:]:
            workdir.mark_done(stage, 1.0)
        for path in ("arch.json", "search/part.json"):
            write_json(workdir.root / path, "search")
        other = changed(search__stop_early=4.0)


def test_redo_without_a_change_keeps_everything(tmp_path: pathlib.Path) -> None:
    workdir = with_results(tmp_path, *STAGES)
    open_workdir(tmp_path, Config(), redo=True)
    assert all(workdir.is_done(stage) for stage in STAGES)
    assert not (workdir.root / "set_aside").exists()


def test_a_setting_that_was_added_later_counts_as_its_default(tmp_path: pathlib.Path) -> None:
    workdir = with_results(tmp_path, *STAGES)
    older = {name: value for name, value in SETTINGS.items() if name != "router.jitter"}
    write_json(workdir.config_path, older)
    open_workdir(tmp_path, Config())
    with pytest.raises(UserError, match=r"router.jitter is 0.0 there and 0.5 here"):
        open_workdir(tmp_path, changed(router__jitter=0.5))


def test_a_supernet_from_before_draws_within_limits_counts_as_one_of_the_whole_space(
    tmp_path: pathlib.Path,
) -> None:
    workdir = with_results(tmp_path, *STAGES)
    older = {name: value for name, value in SETTINGS.items() if "within_limits" not in name}
    limit = {"search.max_flops": 1e12}
    write_json(workdir.config_path, older | limit)
    with pytest.raises(UserError, match=r"supernet.within_limits is False there and True here"):
        open_workdir(tmp_path, from_flat(SETTINGS | limit))
    open_workdir(tmp_path, from_flat(SETTINGS | limit | {"supernet.within_limits": False}))
    write_json(workdir.config_path, older)
    open_workdir(tmp_path, Config())  # no limits admit the whole space
    assert all(workdir.is_done(stage) for stage in STAGES)


@pytest.mark.parametrize(
    ("recorded", "missing", "value"),
    [
        ({"model.dropout": 0.2}, "model.activation_dropout", 0.2),
        ({"supernet.sampling": "sandwich"}, "supernet.distillation_weight", 1.0),
        ({"supernet.sampling": "sandwich"}, "supernet.distillation_warmup", 0.0),
    ],
)
def test_an_older_workdir_has_the_settings_that_its_weights_were_trained_with(
    recorded: dict[str, Any], missing: str, value: float, tmp_path: pathlib.Path
) -> None:
    workdir = with_results(tmp_path, *STAGES)
    older = {name: was for name, was in (SETTINGS | recorded).items() if name != missing}
    write_json(workdir.config_path, older)
    now = from_flat(SETTINGS | recorded)
    with pytest.raises(UserError, match=rf"{missing} is {value} there and .* here; add --redo"):
        open_workdir(tmp_path, now)
    open_workdir(tmp_path, from_flat(SETTINGS | recorded | {missing: value}))
    assert all(workdir.is_done(stage) for stage in STAGES)
    assert completed(SETTINGS | recorded) == SETTINGS | recorded, "newer workdirs are as recorded"
