"""The command: killed and continued it gives the table of an uninterrupted run; what is trained is
what the stage retrain trains.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from etils import epath

from automoe_jax.command.configuration import ConfigFile, read_config, split_overrides
from automoe_jax.errors import UserError
from automoe_jax.model.network import initialised
from automoe_jax.model.transformer import training_options
from automoe_jax.rank import __main__ as rank
from automoe_jax.rank.networks import trained_losses
from automoe_jax.stages import run_stages
from automoe_jax.train import runs
from automoe_jax.train.loop import Run
from automoe_jax.workdir import Workdir, open_workdir
from tests.stages.test_pipeline import TINY, environment

OVERRIDES = (
    "--config.stages=prepare,supernet",
    "--config.model.dropout=0.0",
    "--config.model.attention_dropout=0.0",
    "--config.space.decoder_layers=(1,)",
)


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir with a SuperNet."""
    root = tmp_path_factory.mktemp("rank") / "run"
    config = read_config(ConfigFile.parse(str(TINY)), split_overrides(OVERRIDES)[1])
    run_stages(config, open_workdir(root, config))
    return root


@pytest.fixture(scope="module")
def ranked(supernet: pathlib.Path) -> pathlib.Path:
    """The same with a table, made without an interruption."""
    root = supernet.with_name("ranked")
    shutil.copytree(supernet, root)
    rank_networks(root)
    return root


def words(root: pathlib.Path, *others: str) -> list[str]:
    return [f"--workdir={root}", "--archs=4", "--updates=4", *others]


def rank_networks(root: pathlib.Path, *others: str) -> int:
    sys.argv = ["rank", *words(root, *others)]
    return rank.main()


def test_table_record_and_figure(ranked: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ranked / "rank"
    record = json.loads((folder / "rank.json").read_text())
    assert [one["equal_flops"] for one in record["networks"]] == [True, False, True, False]
    assert all(4 < loss < 7 for one in record["networks"] for loss in one["trained"])
    assert set(record["tau"]["all"]) == {
        "inherited loss",
        "FLOPs",
        "parameters",
        "inherited loss − FLOPs",
        "inherited loss − parameters",
    }
    assert "equal FLOPs (2 networks)" in (folder / "rank.md").read_text()
    assert (folder / "rank.svg").read_text().count("<svg") == 1
    assert not list((folder / "training").rglob("*.json")), "weights are removed"

    before = (folder / "trained.jsonl").read_text()
    assert rank_networks(ranked, "--seeds=2") == 0  # trains the second seed only
    assert (folder / "trained.jsonl").read_text().startswith(before)
    assert "| another training |" in capsys.readouterr().out


def test_trains_as_the_stage_retrain_does(ranked: pathlib.Path) -> None:
    workdir = Workdir(epath.Path(ranked))
    config = workdir.config()
    folder = epath.Path(ranked.with_name("alone"))
    archs = [config.space.smallest(), config.space.largest()]
    losses = trained_losses(config, workdir, folder, archs, 1)
    for arch, (loss,) in zip(archs, losses, strict=True):
        run = Run(
            title="alone",
            folder=folder / str(arch == archs[0]),
            train=config.retrain,
            forward_options=training_options(config),
            seed=config.seed,
            archs=lambda _, arch=arch: [arch],
            probes={"": arch},
        )
        spec = workdir.spec(config, arch)
        tokens = workdir.tokens("train"), workdir.tokens("validation")
        alone = runs.complete(
            run, lambda spec=spec: initialised(spec, jax.random.key(0)), config.data, *tokens
        )
        np.testing.assert_allclose(loss, alone.validation_nll, rtol=1e-4)


def test_killed_and_continued_it_gives_the_same_table(
    supernet: pathlib.Path, ranked: pathlib.Path
) -> None:
    root = supernet.with_name("killed")
    shutil.copytree(supernet, root)
    command = [sys.executable, "-m", "automoe_jax.rank", *words(root)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    lines, deadline = root / "rank" / "trained.jsonl", time.monotonic() + 200
    while not lines.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(lines.read_bytes().splitlines()) < 4
    assert rank_networks(root) == 0
    table, reference = (
        json.loads((path / "rank" / "rank.json").read_text()) for path in (root, ranked)
    )
    for ours, theirs in zip(table["networks"], reference["networks"], strict=True):
        # on a busy machine sums of a training were seen to differ in the last bits, 2e-8
        assert ours.pop("trained")[0] == pytest.approx(theirs.pop("trained")[0], rel=1e-6)
        assert ours == theirs


def test_a_folder_older_than_a_setting_is_used(
    ranked: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "older"
    shutil.copytree(ranked, root)
    path = root / "rank" / "settings.json"
    recorded = json.loads(path.read_text())
    assert recorded.pop("retrain.width_norms") is False
    path.write_text(json.dumps(recorded))
    assert rank_networks(root) == 0

    del recorded["retrain.steps"]  # so the trainings would have had the default number
    path.write_text(json.dumps(recorded))
    with pytest.raises(UserError, match=r"were trained with retrain\.steps=\d+, and now it is 4"):
        rank_networks(root)


def test_mistakes_are_sentences(ranked: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for others, message in (
        (["--archs=2"], "--archs=2 must be at least 4"),
        (["--archs=100000"], r"--archs=100000 is more than the \d+ architectures of the space"),
        (["--updates=5"], r"were trained with retrain\.steps=4, and now it is 5"),
        (["--seeds=0"], "--seeds=0 must be positive"),
        (["--updates=-1"], "--updates=-1 must be positive"),
    ):
        with pytest.raises(UserError, match=message):
            rank_networks(ranked, *others)
    with pytest.raises(UserError, match="holds no run; train one with"):
        rank_networks(tmp_path)
    shutil.copy(ranked / "config.json", tmp_path)
    with pytest.raises(UserError, match="holds no trained SuperNet yet"):
        rank_networks(tmp_path)

    damaged = tmp_path / "damaged"
    shutil.copytree(ranked, damaged)
    lines = damaged / "rank" / "trained.jsonl"
    lines.write_text("{}\n" + lines.read_text())
    with pytest.raises(UserError, match=r"trained\.jsonl, line 1, holds no trained network"):
        rank_networks(damaged)
