"""Commands from end to end on a tiny corpus: outputs, resuming after kills, error messages."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from automoe_jax.config import STAGES
from automoe_jax.export.settings import PRECISIONS
from automoe_jax.export.workdirs import export_onnx
from automoe_jax.inference.engine.folder import open_folder

ROOT = pathlib.Path(__file__).parents[2]
TINY = pathlib.Path(__file__).with_name("tiny.py")


def command(workdir: pathlib.Path, *overrides: str, config: pathlib.Path = TINY) -> list[str]:
    return [
        sys.executable,
        "-m",
        "automoe_jax.main",
        f"--config={config}",
        f"--workdir={workdir}",
        *overrides,
    ]


def environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def run(arguments: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        arguments, input=stdin, capture_output=True, env=environment(), timeout=300, check=False
    )


def result(workdir: pathlib.Path) -> dict[str, Any]:
    """All results of a run, without times."""
    evaluated = json.loads((workdir / "evaluate" / "results.json").read_text())
    measured = {"train_seconds", "decode_sentences_per_second"}
    runs = {
        name: json.loads((workdir / name / "summary.json").read_text())
        for name in ("supernet", "retrain/subtransformer", "retrain/dense")
    }
    return {
        "arch": (workdir / "arch.json").read_text(),
        "candidates": (workdir / "search" / "candidates.jsonl").read_text(),
        "rows": [
            {key: value for key, value in row.items() if key not in measured}
            for row in evaluated["rows"]
        ],
        "samples": evaluated["samples"],
        "validation": {name: summary["validation_nll"] for name, summary in runs.items()},
        "steps": {
            name: [
                json.loads(line)["step"]
                for line in (workdir / name / "metrics.jsonl").read_text().splitlines()
            ]
            for name in runs
        },
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, dict[str, float]]:
    """A finished workdir, and the seconds of each stage."""
    workdir = tmp_path_factory.mktemp("reference") / "run"
    done = run(command(workdir))
    assert done.returncode == 0, done.stderr.decode()
    return workdir, {
        stage: json.loads((workdir / "stages" / f"{stage}.json").read_text())["seconds"]
        for stage in STAGES
    }


def test_everything_is_there_and_a_second_run_skips_it(
    finished: tuple[pathlib.Path, dict[str, float]],
) -> None:
    workdir, _ = finished
    rows = json.loads((workdir / "evaluate" / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [
        "retrained sub-Transformer",
        "retrained sub-Transformer (onnx)",
        "inherited weights",
        "largest dense",
        "copy of the source",
        "word by word",
    ]
    assert [(row["role"], row.get("variant")) for row in rows] == [
        ("retrained", None),
        ("retrained", "onnx"),
        ("inherited", None),
        ("dense", None),
        ("baseline", "copy"),
        ("baseline", "word_by_word"),
    ]
    exported = json.loads((workdir / "export" / "float32" / "model.json").read_text())
    assert exported["scores"]["bleu"] == rows[1]["bleu"]
    assert exported["scores"]["measured"] == rows[1]["name"]
    assert all(0 <= row["bleu"] <= 100 and "version" in row["bleu_signature"] for row in rows)
    page = (workdir / "report.html").read_text()
    assert all(row["name"] in page for row in rows)
    again = run(command(workdir))
    assert again.returncode == 0
    assert [f"{stage}: finished before, skipped" in again.stdout.decode() for stage in STAGES] == [
        True
    ] * len(STAGES)
    assert str(workdir / "report.html") in again.stdout.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)],
    ids=["SIGKILL", "SIGINT"],
)
def test_killed_in_every_stage_it_ends_with_the_same_result(
    number: int,
    code: int,
    finished: tuple[pathlib.Path, dict[str, float]],
    tmp_path: pathlib.Path,
) -> None:
    """SIGKILL or Ctrl-C at a random moment of each stage, then once more to the end."""
    reference, seconds = finished
    workdir, rng = tmp_path / "killed", random.Random()
    killed: list[str] = []
    # Background jobs of a shell ignore SIGINT, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stage in STAGES:
        process = subprocess.Popen(
            command(workdir), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        for line in lines_of(process):
            if line == f"{stage}: starts":
                # Early enough for a stage that is faster than the reference's because its programs
                # are cached.
                time.sleep(rng.uniform(0, 0.2 * seconds[stage]))
                process.send_signal(number)
                break
        _, errors = process.communicate(timeout=200)
        assert process.returncode in (code, 0), errors.decode()
        assert b"Traceback" not in errors, errors.decode()
        if process.returncode == code:
            killed.append(stage)
    assert len(killed) >= len(STAGES) - 2, f"only {killed} were really interrupted"
    final = run(command(workdir))
    assert final.returncode == 0, final.stderr.decode()
    ours, theirs = result(workdir), result(reference)
    if number == signal.SIGINT:  # the update after which a run was stopped has additional records
        recorded, steps = ours.pop("steps"), theirs.pop("steps")
        assert all(set(recorded[name]) >= set(steps[name]) for name in steps)
    assert ours == theirs


def killed_when(arguments: list[str], reached: Callable[[], bool]) -> None:
    """Starts a command and kills it by SIGKILL once `reached` holds; it must not end before."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    )
    while not reached() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    _, errors = process.communicate(timeout=200)
    assert process.returncode == -signal.SIGKILL, errors.decode()


def copied(finished: tuple[pathlib.Path, dict[str, float]], target: pathlib.Path) -> pathlib.Path:
    shutil.copytree(finished[0], target)
    return target


@pytest.mark.slow
def test_a_killed_search_of_a_front_ends_with_the_same_front(
    finished: tuple[pathlib.Path, dict[str, float]], tmp_path: pathlib.Path
) -> None:
    """SIGKILL in NSGA-II's search, within a generation, then once more to the end."""
    settings = (
        "--redo",
        "--config.stages=search",
        "--config.search.algorithm=nsga2",
        "--config.search.iterations=30",
        "--config.search.validation_tokens=4000",
    )
    reference = copied(finished, tmp_path / "reference")
    assert run(command(reference, *settings)).returncode == 0
    workdir = copied(finished, tmp_path / "killed")
    recorded = workdir / "search" / "candidates.jsonl"

    def lines() -> int:
        redone = (workdir / "set_aside").exists() and recorded.exists()
        return recorded.read_bytes().count(b"\n") if redone else 0

    killed_when(command(workdir, *settings), lambda: lines() >= 30)
    before = recorded.read_bytes().splitlines()[:30]
    assert not (workdir / "search" / "pareto.json").exists()
    assert run(command(workdir, *settings[1:])).returncode == 0
    for name in ("candidates.jsonl", "pareto.json", "hypervolume.json"):
        ours, theirs = (path / "search" / name for path in (workdir, reference))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert recorded.read_bytes().splitlines()[:30] == before, "nothing is scored again"


@pytest.mark.slow
def test_the_better_of_two_candidates_survives_a_kill(
    finished: tuple[pathlib.Path, dict[str, float]], tmp_path: pathlib.Path
) -> None:
    """SIGKILL while the second of `retrain.candidates` is trained, then once more to the end."""
    settings = (
        "--redo",
        "--config.stages=retrain,evaluate",
        "--config.retrain.candidates=2",
        "--config.retrain.dense_baseline=false",
    )
    workdir = copied(finished, tmp_path / "killed")
    second = workdir / "retrain" / "candidates" / "2" / "metrics.jsonl"
    killed_when(command(workdir, *settings), second.exists)
    first = json.loads((workdir / "retrain" / "candidates" / "1" / "summary.json").read_text())
    planned = json.loads((workdir / "retrain" / "candidates.json").read_text())
    done = run(command(workdir, *settings[1:]))
    assert done.returncode == 0, done.stderr.decode()
    alone = json.loads((finished[0] / "retrain" / "subtransformer" / "summary.json").read_text())
    assert first["validation_nll"] == alone["validation_nll"], "the first is the search's result"
    trained = json.loads((workdir / "retrain" / "candidates.json").read_text())
    assert [one["arch"] for one in trained] == [one["arch"] for one in planned]
    (best,) = (one for one in trained if one["chosen"])
    assert best["score"] == max(one["score"] for one in trained)
    assert best["arch"] == json.loads((workdir / "retrain" / "arch.json").read_text())
    found = json.loads((workdir / "evaluate" / "retrained.json").read_text())
    assert (workdir / "retrain" / "subtransformer" / "summary.json").exists()
    rows = json.loads((workdir / "evaluate" / "results.json").read_text())["rows"]
    assert found["flops"] == rows[0]["flops"]
    assert "chosen of 2 trained candidates by validation BLEU" in rows[0]["note"]
    again = run(command(workdir, *settings[1:]))
    assert "retrain: finished before, skipped" in again.stdout.decode()


def test_sigterm_saves_and_goes_on_to_the_same_weights(
    finished: tuple[pathlib.Path, dict[str, float]], tmp_path: pathlib.Path
) -> None:
    reference, _ = finished
    workdir = tmp_path / "preempted"
    process = subprocess.Popen(
        command(workdir, "--config.stages=prepare,supernet"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    while not (workdir / "supernet" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 143, errors.decode()
    assert "which is saved" in errors.decode()
    assert "Traceback" not in errors.decode()
    assert run(command(workdir, "--config.stages=prepare,supernet")).returncode == 0
    ours, theirs = (
        json.loads((path / "supernet" / "summary.json").read_text())
        for path in (workdir, reference)
    )
    assert ours["validation_nll"] == theirs["validation_nll"]
    assert ours["tokens"] == theirs["tokens"]


def test_translate_keeps_lines_and_order(finished: tuple[pathlib.Path, dict[str, float]]) -> None:
    workdir, _ = finished
    translate = [
        sys.executable,
        "-m",
        "automoe_jax.translate",
        f"--workdir={workdir}",
        "--beam_size=2",
    ]
    long_line = "the old man sees the small house " * 40
    lines = ["The child sleeps.", "", long_line, "   ", "My teacher works."]
    done = run(translate, "\n".join(lines).encode())
    assert done.returncode == 0, done.stderr.decode()
    found = done.stdout.decode().split("\n")
    assert found[-1] == ""
    assert len(found) == len(lines) + 1
    assert found[1] == found[3] == ""
    alone = run(translate, b"My teacher works.\n")
    assert alone.stdout.decode() == found[4] + "\n"


def test_translate_cleans_lines_like_the_training_text(
    finished: tuple[pathlib.Path, dict[str, float]],
) -> None:
    workdir, _ = finished
    plain = "The old child sees the small house."
    same = [
        plain,
        f"\ufeff{plain}",
        f"  {plain}\u00a0\r",
        plain.replace(" ", "\u2028"),
        plain.replace(" ", "\x0b"),
        plain.replace("old", "o\u00adl\u200bd"),
        f"\u202a{plain}\u202c\u200f",
        plain.replace(" ", "\0"),
    ]
    blank = ["", "\u00a0", "\u200b", "\ufeff", "\u2028", "\0"]
    translate = [sys.executable, "-m", "automoe_jax.translate", f"--workdir={workdir}"]
    done = run([*translate, "--beam_size=1"], "\n".join([*same, *blank]).encode())
    assert done.returncode == 0, done.stderr.decode()
    found = done.stdout.decode().split("\n")
    assert found == [found[0]] * len(same) + [""] * (len(blank) + 1)
    assert found[0]


def test_translate_streams_and_names_a_line_that_is_not_utf8(
    finished: tuple[pathlib.Path, dict[str, float]],
) -> None:
    workdir, _ = finished
    translate = [
        sys.executable,
        "-m",
        "automoe_jax.translate",
        f"--workdir={workdir}",
        "--beam_size=1",
    ]
    process = subprocess.Popen(
        translate,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    process.stdin.write(b"The child sleeps.\n")
    process.stdin.flush()
    assert process.stdout.readline().endswith(b"\n"), (
        "the first line is answered before the second is sent"
    )
    _, errors = process.communicate(b"\xff\xfe\n", timeout=200)
    assert process.returncode == 1
    assert errors.decode().splitlines()[-1].startswith("error: line 2 of the input is not UTF-8")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.search.iteratons=3"], 'Did you mean "iterations"'),
        (["--config.search.iterations=many"], "config.search.iterations"),
        (
            ["--config.supernet.schedule=linear"],
            "config.supernet.schedule='linear' must be cosine or inverse_sqrt",
        ),
        (["--config.space.qkv_dim=15"], "must divide"),
        (["--config.stages=serch"], "did you mean 'search'?"),
        (["--config.data.source=text", "--config.data.path=/nowhere/a.en"], "/nowhere/a.en"),
        (["--config.search.max_flops=10.0"], "config.search.max_flops"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(
    overrides: list[str],
    message: str,
    tmp_path: pathlib.Path,
    finished: tuple[pathlib.Path, dict[str, float]],
) -> None:
    workdir = tmp_path / "run"
    if "max_flops" in overrides[0]:  # everything before the search exists already
        shutil.copytree(finished[0], workdir)
        (workdir / "stages" / "search.json").unlink()
        settings = json.loads((workdir / "config.json").read_text()) | {"search.max_flops": 10.0}
        (workdir / "config.json").write_text(json.dumps(settings))
        message = "smallest architecture"
    assert_one_sentence(run(command(workdir, *overrides)), message)


def test_workdirs_that_do_not_fit(
    finished: tuple[pathlib.Path, dict[str, float]], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").write_text("")
    assert_one_sentence(run(command(tmp_path / "file")), "is a file")
    assert_one_sentence(run(command(finished[0], "--config.seed=7")), "seed is 0 there and 7 here")
    assert_one_sentence(run(command(tmp_path / "new", "--config.stages=search")), "needs 'prepare'")
    assert_one_sentence(
        run(command(tmp_path / "new", config=tmp_path / "nothing.py")), "nothing.py is not a file"
    )
    empty = run([sys.executable, "-m", "automoe_jax.translate", f"--workdir={tmp_path}"])
    assert_one_sentence(empty, "holds no run")


@pytest.mark.slow
def test_separate_vocabularies_from_text_to_translation(tmp_path: pathlib.Path) -> None:
    settings = [
        "--config.data.joint_vocabulary=False",
        "--config.data.target_vocab_size=312",
        "--config.model.shared_embeddings=none",
        "--config.retrain.init=inherited",
    ]
    workdir = tmp_path / "run"
    done = run(command(workdir, *settings))
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads((workdir / "data" / "statistics.json").read_text())
    assert (found["source vocabulary"], found["target vocabulary"]) == (320, 312)
    evaluated = json.loads((workdir / "evaluate" / "results.json").read_text())
    assert evaluated["output_size"] == 312
    translate = [sys.executable, "-m", "automoe_jax.translate", f"--workdir={workdir}"]
    translated = run(translate, b"The child sleeps.\n")
    assert translated.returncode == 0, translated.stderr.decode()
    assert translated.stdout.count(b"\n") == 1


@pytest.mark.slow
def test_exports_state_what_the_evaluation_measured_after_them(
    finished: tuple[pathlib.Path, dict[str, float]], tmp_path: pathlib.Path
) -> None:
    workdir = copied(finished, tmp_path / "run")
    settings = ("--config.evaluate.int8=True", "--config.evaluate.shortlist=20", "--redo")
    done = run(command(workdir, *settings))
    assert done.returncode == 0, done.stderr.decode()
    defaults = json.loads((workdir / "evaluate" / "defaults.json").read_text())
    for precision in PRECISIONS:
        export_onnx(str(workdir), tmp_path / precision, precision)
        own = (workdir / "export" / precision / "model.json").read_text()
        assert own == (tmp_path / precision / "model.json").read_text()
        stored = json.loads(own)
        assert stored["shortlist"] == defaults["shortlist"][precision]
        assert stored["scores"]["default_precision"] == defaults["precision"]
        short = f", shortlist of {stored['shortlist']}" if stored["shortlist"] else ""
        measured = stored["scores"]["measured"].removeprefix("retrained sub-Transformer (")
        assert measured == {"float32": short[2:] or "onnx", "int8": "int8" + short}[precision] + ")"
        assert open_folder(workdir / "export" / precision).description.shortlist in (0, 20)


@pytest.mark.slow
def test_another_limit_searches_again_on_the_same_supernet(
    finished: tuple[pathlib.Path, dict[str, float]], tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    before = {
        path: path.read_bytes() for path in (workdir / "supernet").rglob("*") if path.is_file()
    }
    old = (workdir / "search" / "candidates.jsonl").read_text()
    limit = 1.05 * min(json.loads(line)["flops"] for line in old.splitlines())
    change = [f"--config.search.max_flops={limit}", "--config.evaluate.max_pairs=1000"]
    refused = run(command(workdir, *change))
    assert_one_sentence(refused, "add --redo to run search, retrain, evaluate and report again")
    done = run(command(workdir, *change, "--redo"))
    assert done.returncode == 0, done.stderr.decode()
    assert "supernet: finished before, skipped" in done.stdout.decode()
    assert before == {path: path.read_bytes() for path in before}
    found = (workdir / "search" / "candidates.jsonl").read_text().splitlines()
    assert all(json.loads(line)["flops"] <= limit for line in found)
    assert (workdir / "set_aside" / "1" / "search" / "candidates.jsonl").read_text() == old
    # more pairs asked for than the test text has
    assert json.loads((workdir / "evaluate" / "results.json").read_text())["sentences"] == 24


def test_a_member_of_the_front_is_retrained(
    finished: tuple[pathlib.Path, dict[str, float]], tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    front = json.loads((workdir / "search" / "pareto.json").read_text())
    refused = run(command(workdir, "--config.retrain.arch=front:99", "--redo"))
    assert_one_sentence(refused, f"{len(front)} architectures; set front:1")
    done = run(command(workdir, "--config.retrain.arch=front:1", "--redo"))
    assert done.returncode == 0, done.stderr.decode()
    assert "search: finished before, skipped" in done.stdout.decode()
    assert json.loads((workdir / "retrain" / "arch.json").read_text()) == front[0]["arch"]
    rows = json.loads((workdir / "evaluate" / "results.json").read_text())["rows"]
    assert rows[0]["flops"] == front[0]["flops"]


def assert_one_sentence(done: subprocess.CompletedProcess[bytes], message: str) -> None:
    errors = done.stderr.decode()
    assert done.returncode == 1, errors
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[str]:
    for line in process.stdout:
        yield line.decode().rstrip("\n")
