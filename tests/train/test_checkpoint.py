"""Checkpoints of a state: their mean against float64, and weights that load as they were saved."""

import logging
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from automoe_jax.config import TrainConfig
from automoe_jax.data.batching import TokenPairs, train_batches
from automoe_jax.errors import UserError
from automoe_jax.train.checkpoint import Checkpoints, load_params, save_params
from automoe_jax.train.step import TrainState

TRAIN = TrainConfig(checkpoint_every=2, average_checkpoints=3)
PAIRS = TokenPairs(*[np.arange(4, 12, dtype=np.int32), np.arange(9)] * 2)


def state(step: int) -> TrainState:
    rng = np.random.default_rng(step)
    params = {
        "a": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
        "b": {"c": jnp.asarray(rng.normal(size=4), jnp.float32)},
    }
    return TrainState(jnp.int32(step), params, ())


def test_the_mean_is_of_the_last_regular_checkpoints_and_the_position_comes_back(
    tmp_path: pathlib.Path,
) -> None:
    data, train = (
        train_batches(PAIRS, (4,), 8, 0),
        TrainConfig(checkpoint_every=2, average_checkpoints=3),
    )
    with Checkpoints(tmp_path, train) as checkpoints:
        for step in (2, 4, 6, 7, 8):  # 7: made on SIGTERM
            next(data)
            checkpoints.save(state(step), data, 1 / step)
        mean = checkpoints.averaged_params(state(8), 3)
        best = checkpoints.best_params(state(8))
        again = train_batches(PAIRS, (4,), 8, 0)
        restored = checkpoints.restore(state(0), again)
    expected = np.mean(
        [np.asarray(state(step).params["a"], np.float64) for step in (4, 6, 8)], axis=0
    )
    np.testing.assert_allclose(mean["a"], expected, rtol=1e-6)
    np.testing.assert_array_equal(best["a"], state(8).params["a"])
    assert restored is not None
    assert restored.step == 8
    np.testing.assert_array_equal(restored.params["b"]["c"], state(8).params["b"]["c"])
    np.testing.assert_array_equal(next(again)["source"], next(data)["source"])


def test_a_checkpoint_that_a_signal_asked_for_does_not_displace_the_best_one(
    tmp_path: pathlib.Path,
) -> None:
    train = TrainConfig(steps=11, checkpoint_every=2, average_checkpoints=1)
    data = train_batches(PAIRS, (4,), 8, 0)
    losses = {2: 1.0, 4: 2.0, 5: 0.5, 6: 3.0, 8: 3.0, 11: 3.0}  # 5 is made on SIGTERM
    for steps in ((2, 4, 5), (6, 8, 11)):
        with Checkpoints(tmp_path, train) as checkpoints:
            for step in steps:
                checkpoints.save(state(step), data, losses[step])
            restored = checkpoints.restore(state(0), data)
            best = checkpoints.best_params(state(11))
        assert restored is not None
        assert restored.step == steps[-1]
        np.testing.assert_array_equal(best["a"], state(2).params["a"])


def test_the_best_and_the_last_checkpoints_remain(tmp_path: pathlib.Path) -> None:
    train = TrainConfig(steps=100, checkpoint_every=1, average_checkpoints=1, keep_best=2)
    data = train_batches(PAIRS, (4,), 8, 0)
    losses = {1: 2.0, 2: 1.0, 3: 1.5, 4: 3.0, 5: 3.0, 6: 3.0}
    with Checkpoints(tmp_path, train) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(state(step), data, loss)
        checkpoints.wait()
        assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 3, 5, 6]


def saved(folder: pathlib.Path, *steps: int) -> pathlib.Path:
    """A folder with these checkpoints."""
    data = train_batches(PAIRS, (4,), 8, 0)
    with Checkpoints(folder, TRAIN) as checkpoints:
        for step in steps:
            next(data)
            checkpoints.save(state(step), data, 1 / step)
    return folder


def restored(folder: pathlib.Path) -> int:
    """The update that is restored; its parameters are compared."""
    with Checkpoints(folder, TRAIN) as checkpoints:
        found = checkpoints.restore(state(0), train_batches(PAIRS, (4,), 8, 0))
        assert found is not None
        step = int(found.step)
        np.testing.assert_array_equal(found.params["a"], state(step).params["a"])
        # training continues: the step that was moved aside is written again
        checkpoints.save(state(8), train_batches(PAIRS, (4,), 8, 0), 0.1)
        checkpoints.wait()
    return step


def damage(path: pathlib.Path, how: str) -> None:
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"")


@pytest.mark.parametrize("how", ["truncated", "emptied", "removed"])
def test_whatever_file_of_a_checkpoint_is_damaged_training_resumes_and_nothing_is_deleted(
    how: str, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = saved(tmp_path / "whole", 2, 4)
    for file in sorted(path for path in (whole / "4").rglob("*") if path.is_file()):
        name = file.relative_to(whole / "4")
        run = tmp_path / "-".join(name.parts)
        shutil.copytree(whole, run / "checkpoints")
        damage(run / "checkpoints" / "4" / name, how)
        before = {path.name for path in (run / "checkpoints" / "4").rglob("*")}
        step = restored(run / "checkpoints")
        assert step in (2, 4), name
        aside = run / "unreadable_checkpoints" / "4"
        if step == 2:
            assert {path.name for path in aside.rglob("*")} == before
        elif name.name == "metrics" and how != "removed":
            assert (aside / "metrics" / "metrics").is_file()
        else:
            assert not aside.exists()
    assert "Traceback" not in capfd.readouterr().err


def test_a_second_unreadable_checkpoint_of_the_same_update_gets_another_name(
    tmp_path: pathlib.Path,
) -> None:
    for _ in range(2):
        folder = saved(tmp_path / "checkpoints", 2, 4)
        damage(folder / "4" / "state" / "manifest.ocdbt", "emptied")
        assert restored(folder) == 2
        shutil.rmtree(folder)
    aside = tmp_path / "unreadable_checkpoints"
    assert sorted(path.name for path in aside.iterdir()) == ["4", "4-2"]


def test_where_no_checkpoint_can_be_read_all_stay_and_the_folder_is_named(
    tmp_path: pathlib.Path,
) -> None:
    folder = saved(tmp_path / "checkpoints", 2, 4)
    for step in ("2", "4"):
        damage(folder / step / "state" / "manifest.ocdbt", "truncated")
    with (
        Checkpoints(folder, TRAIN) as checkpoints,
        pytest.raises(UserError, match=rf"none of the 2 checkpoints in {folder} can be read \(4:"),
    ):
        checkpoints.restore(state(0), train_batches(PAIRS, (4,), 8, 0))
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"2", "4"}
    shutil.rmtree(folder)
    with Checkpoints(folder, TRAIN) as checkpoints:
        assert checkpoints.restore(state(0), train_batches(PAIRS, (4,), 8, 0)) is None


def test_no_checkpoint_is_written_where_none_could_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="written but not read"):
        Checkpoints(tmp_path / "a[1]", TRAIN)
    with pytest.raises(UserError, match="written but not read"):
        save_params(tmp_path / "a*", state(1).params)


def test_weights_load_as_numpy_arrays_from_a_path_of_any_kind(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = state(1).params
    save_params(pathlib.Path("final"), params)
    np.testing.assert_array_equal(load_params(pathlib.Path("final"), params)["a"], params["a"])
    loaded = load_params(tmp_path / "final", params)
    assert isinstance(loaded["a"], np.ndarray)
    np.testing.assert_array_equal(loaded["a"], params["a"])


def test_what_orbax_raises_is_not_logged_with_its_traceback_too(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("a process was lost")

    monkeypatch.setattr(ocp.CheckpointManager, "_finalize", lost)
    orbax = logging.getLogger("absl")
    orbax.addHandler(caplog.handler)
    try:
        with (
            pytest.raises(RuntimeError, match="a process was lost"),
            Checkpoints(tmp_path, TrainConfig()) as checkpoints,
        ):
            checkpoints.save(state(2), train_batches(PAIRS, (4,), 8, 0), 0.5)
    finally:
        orbax.removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.exc_info]
