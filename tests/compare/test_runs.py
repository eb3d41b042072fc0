"""A run in a separate process, which gets time to save after a signal; finished runs whose settings
have changed.
"""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys

import pytest

from automoe_jax.compare import command, runs
from automoe_jax.compare.experiments import Experiment
from automoe_jax.compare.results import record_path
from automoe_jax.config import Config, from_flat
from automoe_jax.dependencies import settings_of
from automoe_jax.errors import UserError
from tests.compare.test_results import RECORD

ROOT = pathlib.Path(__file__).parents[2]
CHILD = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(1)  # longer than subprocess.run waits before it kills
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import os, sys
from automoe_jax.command.run import run_for_people
from automoe_jax.compare.runs import finishes
command = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
sys.exit(run_for_people(lambda: print(finishes(command, os.environ)), resumes=True))
"""


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGINT, "error: interrupted; run the same command again, it resumes"),
        (signal.SIGTERM, "compare: stopped by SIGTERM; run the same command again to resume"),
        (signal.SIGHUP, "compare: stopped by SIGHUP; run the same command again to resume"),
    ],
)
def test_a_run_saves_its_work_after_a_signal(
    number: signal.Signals, message: str, tmp_path: pathlib.Path
) -> None:
    # Background jobs of a shell ignore SIGINT, and `nohup` SIGHUP; their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, str(tmp_path / "file")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.startswith(message)
    assert (tmp_path / "file").read_text() == "saved"


def test_a_finished_run_whose_settings_have_changed_is_not_skipped(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = from_flat({"space.encoder_layers": (1,), "retrain.steps": 5})
    settings = settings_of(config) | {
        "seed": 3,
        "retrain.dense_baseline": False,
        "search.dense_rival": False,
    }
    record = dataclasses.replace(RECORD, config=settings)
    record_path(tmp_path, "one-3").write_text(json.dumps(record.to_json()))
    trained: list[str] = []

    def run(experiment: Experiment, seed: int, *_: object) -> bool:
        trained.append(f"{experiment.name}-{seed}")
        return False

    monkeypatch.setattr(runs, "run", run)

    def run_all(config: Config, redo: bool = False) -> list[str]:
        trained.clear()
        experiments = [Experiment(name, "file.py", config) for name in ("new", "one")]
        runs.run_all(experiments, [3], tmp_path, tmp_path, redo=redo)
        return trained

    assert run_all(config) == ["new-3"]
    other = dataclasses.replace(config, stages="prepare", fsdp=True)
    assert run_all(other) == ["new-3"], "no result depends on these settings"
    longer = dataclasses.replace(config, retrain=dataclasses.replace(config.retrain, steps=6))
    message = (
        r"the results of one-3 in .* are of another configuration: retrain.steps is 5 there and 6"
        r" here; add --redo to run one-3 again, or name another --workdir or the same settings"
    )
    with pytest.raises(UserError, match=message):
        run_all(longer)
    assert trained == [], "the mistake is found before a run that would take hours"
    assert run_all(longer, redo=True) == ["new-3", "one-3"]


def test_a_damaged_record_of_a_finished_run_is_named(tmp_path: pathlib.Path) -> None:
    experiment = Experiment("one", "file.py", Config())
    for content in ("", "[]", "{}", '{"rows": 3}'):
        record_path(tmp_path, "one-3").write_text(content)
        with pytest.raises(UserError, match=r"one-3.json is damaged .* remove it"):
            runs.changes(experiment, 3, tmp_path)


def test_runs_that_all_failed_are_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "run_all", lambda *_: ["one-3"])
    monkeypatch.setattr(command, "load_experiments", lambda _: [])
    arguments = ["--configs=one.py", "--seeds=3", f"--workdir={tmp_path}"]
    assert command.main(arguments) == 1
    assert capsys.readouterr().err == (
        "error: one-3 did not finish; run the same command again to resume\n"
    )
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--results=.*file is a file; name a folder"):
        command.main([*arguments, f"--results={tmp_path / 'file'}"])
