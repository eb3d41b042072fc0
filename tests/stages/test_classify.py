"""A classifier from a text file to its report, with a search, and rejected settings."""

import json
import pathlib
import subprocess
import sys

import numpy as np

from tests.stages.test_pipeline import assert_one_sentence, command, run

CONFIG = pathlib.Path(__file__).with_name("tiny_classes.py")
ANIMALS, TOOLS, FRUITS = (
    ["cat", "dog", "cow", "hen", "pig"],
    ["saw", "axe", "awl", "hoe", "rasp"],
    ["fig", "plum", "pear", "lime", "date"],
)
KINDS = {"animal": ANIMALS, "tool": TOOLS, "fruit": FRUITS}


def write(folder: pathlib.Path) -> pathlib.Path:
    """Sentences that contain one thing among other words, and its kind after a TAB."""
    rng, others = (
        np.random.default_rng(0),
        [
            "the",
            "a",
            "my",
            "old",
            "new",
            "big",
            "red",
            "we",
            "see",
            "take",
            "near",
            "two",
        ],
    )
    lines = []
    for kind in rng.choice(list(KINDS), 400):
        words = [*rng.choice(others, rng.integers(3, 9)), rng.choice(KINDS[kind])]
        rng.shuffle(words)
        lines.append(f"{' '.join(words)}\t{kind}\n")
    path = folder / "things.tsv"
    path.write_text("".join(lines))
    return path


def test_from_labelled_text_to_the_report(tmp_path: pathlib.Path) -> None:
    text = f"--config.data.path={write(tmp_path)}"
    done = run(command(tmp_path / "run", text, config=CONFIG))
    assert done.returncode == 0, done.stderr.decode()
    assert "accuracy %" in done.stdout.decode()
    evaluated = json.loads((tmp_path / "run" / "evaluate" / "results.json").read_text())
    rows = {row["name"]: row for row in evaluated["rows"]}
    assert list(rows) == [
        "retrained sub-Transformer",
        "inherited weights",
        "best dense within limits",
        "largest dense",
        "most frequent class",
    ]
    assert rows["most frequent class"]["accuracy"] < 60
    assert rows["retrained sub-Transformer"]["accuracy"] > 90
    assert rows["retrained sub-Transformer"]["flops"] < rows["largest dense"]["flops"]
    assert evaluated["samples"][0]["reference"] in KINDS
    assert json.loads((tmp_path / "run" / "arch.json").read_text())["decoder"]["layers"] == []
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The found classifier reaches" in page
    assert (
        run(command(tmp_path / "run", text, config=CONFIG))
        .stdout.decode()
        .count("finished before, skipped")
        == 6
    )

    translate = used("translate", f"--workdir={tmp_path / 'run'}")
    assert_one_sentence(translate, "holds a classifier; use python -m automoe_jax.classify")
    check_commands(tmp_path / "run", tmp_path)


def used(command: str, *flags: str, lines: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", f"automoe_jax.{command}", *flags],
        input=lines.encode(),
        capture_output=True,
        check=False,
    )


def check_commands(workdir: pathlib.Path, folder: pathlib.Path) -> None:
    """`classify` with both engines and an export gives the classes of the evaluation."""
    text = json.loads((workdir / "data" / "test.json").read_text())
    expected = json.loads((workdir / "evaluate" / "retrained.json").read_text())["outputs"]
    lines = "".join(f"{line}\n" for line in [*text["source"], ""])
    done = used("export", f"--workdir={workdir}", f"--out={folder / 'exported'}")
    assert done.returncode == 0, done.stderr
    description = json.loads((folder / "exported" / "model.json").read_text())
    assert description["labels"] == sorted(KINDS)
    assert description["scores"]["accuracy"] > 90
    ways = [f"--workdir={workdir}"], [f"--workdir={workdir}", "--engine=jax"]
    for way in (*ways, [f"--model={folder / 'exported'}", "--threads=1"]):
        done = used("classify", *way, lines=lines)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode().split("\n") == [*expected, "", ""]
    printed = used("classify", f"--model={folder / 'exported'}", "--json", lines=lines).stdout
    for line, source, name in zip(
        printed.decode().splitlines(), [*text["source"], ""], [*expected, ""], strict=True
    ):
        record = json.loads(line)
        assert record["source"] == source
        assert len(record["classes"]) == (len(KINDS) if name else 0)
        if name:
            assert record["classes"][0]["class"] == name
            assert abs(sum(one["probability"] for one in record["classes"]) - 1) < 1e-5
    wrong = used("classify", f"--model={folder / 'exported'}", "--n_best=4")
    assert_one_sentence(wrong, "--n_best=4 must be between 1 and the number of classes, 3")
    web = used("export", f"--workdir={workdir}", "--format=web", f"--out={folder / 'web'}")
    assert_one_sentence(web, "--format=web is for translators")


def test_what_does_not_go_together(tmp_path: pathlib.Path) -> None:
    decoder = run(command(tmp_path, "--config.space.decoder_layers=(1,)", config=CONFIG))
    assert_one_sentence(decoder, "must be (0,) when config.task='classify'")
    assert_one_sentence(
        run(command(tmp_path, "--config.data.source=toy", config=CONFIG)),
        "has no classes; choose debian, text or tfds",
    )


def test_a_supernet_of_classifiers_trains_by_sandwich_sampling(tmp_path: pathlib.Path) -> None:
    flags = (
        f"--config.data.path={write(tmp_path)}",
        "--config.supernet.sampling=sandwich",
        "--config.supernet.steps=2",
        "--config.stages=prepare,supernet",
    )
    done = run(command(tmp_path / "run", *flags, config=CONFIG))
    assert done.returncode == 0, done.stderr.decode()
    summary = json.loads((tmp_path / "run" / "supernet" / "summary.json").read_text())
    assert 0 < summary["validation_nll"] < 20
