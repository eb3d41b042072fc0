"""Checkpoints of a state: their mean against float64, and weights that load as they were saved."""

import logging
import pathlib

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from automoe_jax.config import TrainConfig
from automoe_jax.data.batching import TokenPairs, train_batches
from automoe_jax.train.checkpoint import Checkpoints, load_params, save_params
from automoe_jax.train.step import TrainState

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
