"""Latency of untrained architectures on this device, and predictions from it."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from automoe_jax.config import Config, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.latency import collection, timing
from automoe_jax.latency.collection import Collection, Measured
from automoe_jax.latency.device import conditions_of, costs_on_device, settings_of
from automoe_jax.latency.features import NAMES, features
from automoe_jax.latency.predictor import fit, held_out
from automoe_jax.space import SearchSpace
from tests.stages.tiny import get_config

VOCAB_SIZE = 320


@pytest.fixture(scope="module")
def config() -> Config:
    values = get_config()
    with values.unlocked():
        values.search.source_length = values.search.target_length = 6
        values.search.device.architectures = 12
        values.search.max_latency_ms = 1e6
    return from_config_dict(values)


@pytest.fixture(scope="module")
def path(config: Config, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("device") / "device.jsonl"
    costs_on_device(config, settings_of(config, VOCAB_SIZE), path)
    return path


def test_costs_are_positive_and_grow(config: Config, path: pathlib.Path) -> None:
    before = path.read_text()
    costs = costs_on_device(config, settings_of(config, VOCAB_SIZE), path)
    assert path.read_text() == before, "a finished file is used as it is"
    assert set(costs) == {"latency_ms", "latency_share", "file_mb", "memory_mb"}
    smallest, largest = config.space.smallest(), config.space.largest()
    for cost in costs.values():
        assert cost(smallest) > 0
    assert costs["file_mb"](smallest) < costs["file_mb"](largest)
    assert costs["latency_ms"](smallest) < costs["latency_ms"](largest)


def test_the_predicted_size_is_the_models(config: Config, path: pathlib.Path) -> None:
    settings = settings_of(config, VOCAB_SIZE)
    size = costs_on_device(config, settings, path)["file_mb"]
    for seed in range(20, 24):
        arch = config.space.sample(np.random.default_rng(seed))
        model = timing.build(arch, settings, conditions_of(config))
        assert size(arch) == pytest.approx(model.file_bytes / 1e6, rel=0.05)


def test_each_model_comes_first_in_turn() -> None:
    orders = [timing.in_turn(3, number) for number in range(4)]
    assert orders == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_an_interrupted_collection_continues(
    config: Config, path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    lines = path.read_text().splitlines(keepends=True)
    copy = tmp_path / "device.jsonl"
    copy.write_text("".join(lines[:6]) + lines[6][:20])  # killed while it wrote
    costs_on_device(config, settings_of(config, VOCAB_SIZE), copy)
    again = copy.read_text().splitlines(keepends=True)
    assert again[:6] == lines[:6]
    assert len(again) == len(lines)
    archs = [json.dumps(json.loads(line)["arch"]) for line in again[1:]]
    assert len(set(archs)) == len(archs), "none is timed twice"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ms": -1}, r"line 3, is no timed architecture \(times and sizes must be positive\)"),
        ({"ms": None}, "line 3, is no timed architecture"),
        ({"memory_mb": -5}, r"line 3, is no timed architecture \(memory must not be negative\)"),
        ({"arch": {}}, "line 3, is no timed architecture"),
    ],
    ids=["impossible", "missing", "memory", "no architecture"],
)
def test_a_wrong_row_is_named(
    config: Config,
    path: pathlib.Path,
    tmp_path: pathlib.Path,
    change: dict[str, object],
    message: str,
) -> None:
    lines = path.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | change)
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=message):
        costs_on_device(config, settings_of(config, VOCAB_SIZE), wrong)


def on_another_device(config: Config, file: pathlib.Path) -> Config:
    device = dataclasses.replace(config.search.device, file=str(file))
    return dataclasses.replace(config, search=dataclasses.replace(config.search, device=device))


def test_a_complete_last_row_that_is_impossible_is_named(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    *lines, last = path.read_text().splitlines()
    record = json.loads(last)
    del record["ms"]
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("\n".join([*lines, json.dumps(record)]))
    assert len(collection.load(wrong).measured) == len(lines) - 1, "as if killed while it wrote"
    wrong.write_text("\n".join([*lines, json.dumps(record)]) + "\n")
    with pytest.raises(UserError, match=r"is no timed architecture \(it lacks 'ms'\)"):
        collection.load(wrong)


def test_too_few_rows_and_rows_of_another_space(
    config: Config, path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    header, *rows = path.read_text().splitlines()
    file, settings = tmp_path / "other.jsonl", settings_of(config, VOCAB_SIZE)
    there = on_another_device(config, file)
    file.write_text("\n".join([header, *rows[:3]]) + "\n")
    with pytest.raises(UserError, match="has 3 timed architectures and 12 are needed"):
        costs_on_device(there, settings, tmp_path / "unused")
    record = json.loads(rows[4])
    record["arch"]["encoder"]["embed_dim"] = 24
    file.write_text("\n".join([header, *rows[:4], json.dumps(record), *rows[5:]]) + "\n")
    with pytest.raises(UserError, match=r"line 6, holds an architecture outside config.space"):
        costs_on_device(there, settings, tmp_path / "unused")


@pytest.mark.parametrize(
    ("name", "value"),
    [("engine", "onnxruntime 0.1"), ("vocabulary", 7), ("threads", 99), ("precision", "int8")],
)
def test_other_conditions_are_named(
    config: Config, path: pathlib.Path, tmp_path: pathlib.Path, name: str, value: object
) -> None:
    header, *rows = path.read_text().splitlines()
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join([json.dumps(json.loads(header) | {name: value}), *rows]) + "\n")
    there = on_another_device(config, other)
    with pytest.raises(UserError, match=f"was made with {name}={value!r}, and this search needs"):
        costs_on_device(there, settings_of(config, VOCAB_SIZE), tmp_path / "unused")


def test_an_empty_file_is_a_sentence(config: Config, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(UserError, match="line 1, is not the header"):
        costs_on_device(config, settings_of(config, VOCAB_SIZE), tmp_path / "empty")


def test_a_linear_device_is_predicted_exactly() -> None:
    space, rng = SearchSpace(), np.random.default_rng(1)
    archs = [space.sample(rng) for _ in range(80)]
    truth = np.abs(np.random.default_rng(2).normal(size=len(NAMES))) / features(space.largest())
    values = [float(features(arch) @ truth) for arch in archs]
    predictor = fit(archs[:60], values[:60])
    for arch, value in zip(archs[60:], values[60:], strict=True):
        assert predictor(arch) == pytest.approx(value, rel=1e-6)
    error = held_out(archs, values)
    assert error.worst < 1e-6
    assert error.rank_correlation == pytest.approx(1)


def test_a_slow_moment_of_the_device_cancels() -> None:
    space, rng = SearchSpace(), np.random.default_rng(1)
    rows = [
        Measured(space.sample(rng), 4.0 * slow, 2.0 * slow, 1000) for slow in (1.0, 1.0, 3.0, 1.0)
    ]
    assert Collection({}, tuple(rows)).values() == pytest.approx([4.0] * 4)


def test_interrupted_batches_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Interrupted:
        """Takes `own` seconds, and another second in the share `interrupted` of its batches."""

        threads = 2

        def __init__(self, own: float, interrupted: float) -> None:
            self.own, self.interrupted, self.batches = own, interrupted, 0

        def translate(self) -> None:
            nonlocal now
            self.batches += 1
            now += self.own + (self.batches % 10 < 10 * self.interrupted)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    models = [Interrupted(2.0, 0.3), Interrupted(3.0, 0.7)]
    assert timing.milliseconds(models, rounds=40) == pytest.approx([2000, 3000])
    models = [Interrupted(2.0, 0.3), Interrupted(3.0, 0.7)]
    timing.milliseconds(models, rounds=1, seconds=1000.0)
    assert models[0].batches > 100, "rounds are added until the seconds have passed"


def test_only_the_processor_time_of_one_thread_counts() -> None:
    class Waiting:
        """Waits for 10 ms, as it does while another program has its core."""

        def __init__(self, threads: int) -> None:
            self.threads = threads

        def translate(self) -> None:
            timing.time.sleep(0.01)
            sum(range(1000))  # at least a tick of the timer

    (alone,) = timing.milliseconds([Waiting(1)], rounds=3)
    (together,) = timing.milliseconds([Waiting(2)], rounds=3)
    assert 0 < alone < 5 < 10 <= together


def test_a_decision_is_measured_with_models_loaded_anew(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = config.space.smallest()
    model = timing.build(arch, settings_of(config, VOCAB_SIZE), conditions_of(config))
    loaded, usual = [], timing.milliseconds

    def milliseconds(models: list[timing.Model], rounds: int, seconds: float) -> list[float]:
        loaded.extend(one.loaded for one in models)
        assert seconds == timing.DECIDING
        return usual(models, rounds)

    monkeypatch.setattr(timing, "milliseconds", milliseconds)
    times = timing.repeated([model, model], 1, "title")
    assert times.shape == (timing.REPEATS, 2)
    assert len({id(one) for one in [model.loaded, *loaded]}) == 1 + 2 * timing.REPEATS


def test_a_coarse_timer_is_refused(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    model = timing.build(
        config.space.smallest(), settings_of(config, VOCAB_SIZE), conditions_of(config)
    )
    clock = timing.time.get_clock_info("thread_time")
    coarse = type(clock)(**vars(clock) | {"resolution": 1.0})
    monkeypatch.setattr(timing.time, "get_clock_info", lambda name: coarse)
    with pytest.raises(UserError, match=r"counts in steps of 1000 ms, too coarse"):
        timing.milliseconds([model], rounds=1)


def test_collecting_imports_no_jax() -> None:
    code = "import sys, automoe_jax.latency.device; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_next_ones_are_the_extremes_first(config: Config) -> None:
    first = collection._next(config.space, Collection({}, ()), 4)
    assert first[:2] == [config.space.smallest(), config.space.largest()]
