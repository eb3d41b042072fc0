"""Damaged, emptied and removed files of a workdir: the advice of the messages is followed to the
letter, with the same command, until the run is finished.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import sys
from collections.abc import Callable

import pytest
from etils import epath

from automoe_jax import main
from automoe_jax.command.run import run_for_people
from automoe_jax.config import STAGES
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import absolute
from automoe_jax.runtime.lock import locked
from automoe_jax.search import history
from automoe_jax.stages import prepare, report
from automoe_jax.workdir import Workdir

TINY = pathlib.Path(__file__).with_name("tiny.py")
ROWS = "evaluate/retrained.json"
# Advice may be followed as often as there are damaged files; here there is one.
MOST_ADVICE = 2


def run(workdir: pathlib.Path) -> int:
    """The exit code of the command, run in this process."""
    arguments = ["main", f"--config={TINY}", f"--workdir={workdir}"]
    return run_for_people(lambda: main.run(arguments))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert run(workdir) == 0
    return workdir


@pytest.fixture
def workdir(finished: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the finished run whose text is prepared and whose networks are trained: all other
    results are read or computed again.
    """
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for stage in STAGES[1:]:
        (folder / "stages" / f"{stage}.json").unlink()
    return folder


def result(workdir: pathlib.Path) -> object:
    """Results of a run, without times."""
    evaluated = json.loads((workdir / "evaluate" / "results.json").read_text())
    timed = {"train_seconds", "decode_sentences_per_second"}
    return (
        (workdir / "arch.json").read_text(),
        (workdir / "search" / "candidates.jsonl").read_text(),
        [{key: row[key] for key in row.keys() - timed} for row in evaluated["rows"]],
        evaluated["samples"],
    )


def damage(path: pathlib.Path, how: str) -> None:
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        if how == "removed":
            shutil.rmtree(path)
        else:
            for file in files:
                damage(file, how)
        return
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"")


def advised(message: str, workdir: pathlib.Path) -> pathlib.Path:
    """The file or folder of the workdir that an error message says to remove: named in the advice
    itself, or else the first that is named.
    """
    advice = re.search(r"(remove|delete) .*", message)
    assert advice, message
    name = rf"{re.escape(str(workdir))}/[\w./-]*\w"
    named = re.search(name, advice[0]) or re.search(name, message)
    assert named, message
    return pathlib.Path(named[0])


def finish(workdir: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> list[pathlib.Path]:
    """Runs the command and follows its advice until the run is finished; returns what was
    removed.
    """
    removed: list[pathlib.Path] = []
    while code := run(workdir):
        errors = capfd.readouterr().err
        assert code == 1
        assert "Traceback" not in errors
        message = errors.strip().splitlines()[-1]
        assert message.startswith("error: ")
        path = advised(message, workdir)
        assert path not in removed, f"the advice goes in a circle: {message}"
        assert len(removed) < MOST_ADVICE, message
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        removed.append(path)
    assert "Traceback" not in capfd.readouterr().err
    assert {path.stem for path in (workdir / "stages").iterdir()} == set(STAGES)
    assert (workdir / "report.html").stat().st_size > 0
    return removed


EVERY = ("truncated", "emptied", "removed")
CASES = [
    # (file or folder, which damage, files that are removed with it so that it is read)
    ("config.json", EVERY, ()),
    ("data/tokenizer.model", EVERY, ()),
    ("data/train.npz", ("truncated", "emptied", "removed"), ()),
    ("data/validation.npz", ("truncated",), ()),
    ("data/test.npz", ("emptied",), (ROWS,)),
    ("data/test.json", EVERY, ()),
    ("data/validation.json", ("removed",), ()),
    ("data/statistics.json", EVERY, ()),
    ("supernet/summary.json", EVERY, ()),
    ("supernet/final", EVERY, ()),
    ("supernet/metrics.jsonl", EVERY, ()),
    ("supernet/checkpoints/12", ("truncated", "emptied"), ("supernet/summary.json",)),
    ("supernet/checkpoints", ("truncated", "emptied", "removed"), ("supernet/summary.json",)),
    ("search/candidates.jsonl", ("emptied", "removed"), ()),
    ("search/pareto.json", ("removed",), ()),
    ("arch.json", ("removed",), ()),
    ("retrain/subtransformer/summary.json", EVERY, ()),
    ("retrain/subtransformer/final", ("truncated", "removed"), (ROWS,)),
    ("retrain/dense/summary.json", ("emptied",), ()),
    (ROWS, EVERY, ()),
    ("evaluate/inherited.json", ("emptied",), ()),
    ("stages/prepare.json", EVERY, ()),
]
# Without these the cases of a fast run would cover every kind of file still.
QUICK = {
    ("config.json", "truncated"),
    ("config.json", "emptied"),
    ("data/tokenizer.model", "truncated"),
    ("data/tokenizer.model", "emptied"),
    ("data/tokenizer.model", "removed"),
    ("data/train.npz", "emptied"),
    ("data/test.json", "truncated"),
    ("data/statistics.json", "emptied"),
    ("supernet/summary.json", "emptied"),
    ("supernet/final", "truncated"),
    ("supernet/final", "removed"),
    ("supernet/checkpoints/12", "truncated"),
    ("search/candidates.jsonl", "removed"),
    ("retrain/subtransformer/summary.json", "truncated"),
    (ROWS, "truncated"),
    ("stages/prepare.json", "emptied"),
}


@pytest.mark.parametrize(
    ("name", "how", "removed"),
    [
        pytest.param(
            name,
            how,
            removed,
            id=f"{name} {how}",
            marks=[] if (name, how) in QUICK else [pytest.mark.slow],
        )
        for name, hows, removed in CASES
        for how in hows
    ],
)
def test_advice_about_a_damaged_file_leads_to_a_finished_run(
    name: str,
    how: str,
    removed: tuple[str, ...],
    finished: pathlib.Path,
    workdir: pathlib.Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for other in removed:
        (workdir / other).unlink()
    damage(workdir / name, how)
    followed = finish(workdir, capfd)
    assert all(
        workdir / name in (path, *path.parents) or path in (workdir / name).parents
        for path in followed
    )
    if how == "removed":
        assert not followed, "what is missing is written again without being asked for"
    if name != "search/candidates.jsonl" or how != "truncated":
        assert result(workdir) == result(finished)


# What the last stages wrote is read by the report alone.
OF_THE_REPORT = [
    "search/candidates.jsonl",
    "search/pareto.json",
    "arch.json",
    "evaluate/results.json",
    "data/statistics.json",
    "stages/search.json",
    "stages/retrain.json",
    "stages/evaluate.json",
    "supernet/metrics.jsonl",
    "retrain/subtransformer/metrics.jsonl",
    "retrain/dense/metrics.jsonl",
]


@pytest.mark.parametrize("how", EVERY)
@pytest.mark.parametrize("name", OF_THE_REPORT)
def test_advice_about_a_file_of_the_report_leads_to_a_finished_run(
    name: str,
    how: str,
    finished: pathlib.Path,
    tmp_path: pathlib.Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    (workdir / "stages" / "report.json").unlink()
    damage(workdir / name, how)
    finish(workdir, capfd)
    arch, candidates, rows, samples = result(workdir)
    expected = result(finished)
    assert (arch, rows, samples) == (expected[0], expected[2], expected[3])
    assert sorted(candidates.splitlines()) == sorted(expected[1].splitlines())


@pytest.mark.parametrize("name", ["report.html", "arch.json", "data/tokenizer.model"])
def test_a_missing_file_of_a_finished_run_is_written_again(
    name: str, finished: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    (workdir / name).unlink()
    shutil.rmtree(workdir / "supernet" / "checkpoints")  # no longer needed
    assert run(workdir) == 0
    assert f"{workdir / name} is missing" in capfd.readouterr().out
    assert (workdir / name).read_bytes()[:100] == (finished / name).read_bytes()[:100]
    assert result(workdir) == result(finished)


def test_a_missing_row_of_a_finished_evaluation_is_written_again(
    finished: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    path = workdir / "evaluate" / "dense.json"
    path.unlink()
    assert run(workdir) == 0
    assert f"{path} is missing" in capfd.readouterr().out
    outputs = [
        json.loads((one / "evaluate" / path.name).read_text()) for one in (workdir, finished)
    ]
    assert outputs[0]["outputs"] == outputs[1]["outputs"]
    assert result(workdir) == result(finished)


def test_what_no_stage_needs_any_more_may_be_removed(
    finished: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    shutil.rmtree(workdir / "supernet")
    shutil.rmtree(workdir / "search")
    assert run(workdir) == 0
    assert capfd.readouterr().out.count("finished before, skipped") == len(STAGES)
    (workdir / "data" / "train.npz").unlink()
    assert run(workdir) == 0
    assert not (workdir / "supernet").exists()


@pytest.mark.parametrize("how", EVERY)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("data/tokenizer.model", lambda workdir: workdir.tokenizer()),
        ("data/train.npz", lambda workdir: workdir.tokens("train")),
        ("data/validation.npz", lambda workdir: workdir.tokens("validation")),
        ("data/test.npz", lambda workdir: workdir.tokens("test")),
        ("data/labels.json", lambda workdir: workdir.labels()),
        ("config.json", lambda workdir: workdir.config()),
        ("arch.json", lambda workdir: workdir.arch()),
        ("stages/search.json", lambda workdir: workdir.seconds("search")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_read_is_named(
    name: str,
    read: Callable[[Workdir], object],
    how: str,
    finished: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / "run"
    for part in ("data", "stages"):
        shutil.copytree(finished / part, folder / part)
    shutil.copy(finished / "config.json", folder)
    shutil.copy(finished / "arch.json", folder)
    (folder / "data" / "labels.json").write_text('["a", "b"]')
    workdir = Workdir(absolute(folder))
    assert read(workdir) is not None
    damage(folder / name, how)
    if name.startswith("stages") and how == "removed":
        assert read(workdir) is None
        return
    said = "is missing" if how == "removed" else "is damaged.*remove it"
    with pytest.raises(UserError, match=rf"{re.escape(str(folder / name))} {said}"):
        read(workdir)


@pytest.mark.parametrize(
    ("stage", "module", "says"),
    [("prepare", prepare, "prepare starts again"), ("report", report, "report starts again")],
)
def test_ctrl_c_outside_of_training_says_how_the_stage_continues(
    stage: str,
    module: object,
    says: str,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (workdir / "stages" / f"{stage}.json").unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(module, "run", lambda *_: signal.raise_signal(signal.SIGINT))
        assert run(workdir) == 130
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said == f"interrupted in the stage {stage!r}; run the same command again: {says}"
    assert not (workdir / "lock.json").exists()


def test_ctrl_c_in_the_search_records_the_candidate(
    workdir: pathlib.Path,
    finished: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = workdir / "search" / "candidates.jsonl"
    path.unlink()
    append = history.append

    def recorded(*arguments: object) -> None:
        append(*arguments)
        if len(path.read_text().splitlines()) == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(history, "append", recorded)
        assert run(workdir) == 130
    errors = capfd.readouterr().err
    assert "stopped by Ctrl-C after candidate 3 of the search, which is recorded; run the" in errors
    assert len(path.read_text().splitlines()) == 3
    assert run(workdir) == 0
    assert result(workdir) == result(finished)


def test_a_workdir_in_use_or_read_only_is_refused_unless_there_is_nothing_to_do(
    workdir: pathlib.Path,
    finished: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with locked(epath.Path(workdir)):
        assert run(workdir) == 1
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: {workdir} is in use by process {os.getpid()} on ")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run(workdir) == 1
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: {workdir} cannot be written to; make it writable")
    assert run(finished) == 0


if sys.platform == "linux":

    @pytest.mark.parametrize(
        ("workdir_", "message"),
        [
            ("/proc/run", "cannot be made"),
            ("/dev/null/run", "is in /dev/null, which is a file"),
            ("/dev/null", "is a file"),
            ("x" * 300, "cannot be made (File name too long)"),
            ("/".join(["/tmp", *["x" * 200] * 25]), "too long"),
        ],
    )
    def test_a_workdir_that_cannot_be_made_is_one_sentence(
        workdir_: str,
        message: str,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run(pathlib.Path(workdir_)) == 1
        errors = capfd.readouterr().err
        assert "Traceback" not in errors
        assert message in errors.strip().splitlines()[-1]
