"""Text that changes after it was prepared: found, and said with the ways to continue."""

import dataclasses
import pathlib
import re

import pytest

from automoe_jax.config import Config, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.stages import run_stages
from automoe_jax.workdir import Workdir, open_workdir
from tests.stages import tiny

LINES = [f"the {a} {b} sees the {c}" for a in "abcdefgh" for b in "klmn" for c in "stuvwxyz"]


def prepared(folder: pathlib.Path) -> tuple[Config, Workdir, pathlib.Path]:
    """A workdir whose text, from the file that is returned, is prepared."""
    text = folder / "text.tsv"
    text.write_text("".join(f"{line}\t{line[::-1]}\n" for line in LINES))
    config = from_config_dict(tiny.get_config())
    data = dataclasses.replace(config.data, source="text", path=str(text), pairs=0)
    config = dataclasses.replace(config, data=data, stages="prepare")
    workdir = open_workdir(folder / "run", config)
    run_stages(config, workdir)
    return config, workdir, text


def test_a_file_that_changed_is_named_until_it_is_restored_or_moved_away(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, workdir, text = prepared(tmp_path)
    run_stages(config, workdir)
    assert "prepare: finished before, skipped" in capsys.readouterr().out
    before = text.read_text()
    text.write_text(before.replace("the a k", "the b k", 1))
    said = rf"{re.escape(str(text))} has changed since its text was prepared .* or move it away"
    with pytest.raises(UserError, match=said):
        run_stages(config, workdir)
    moved = text.rename(tmp_path / "moved")
    run_stages(config, workdir)
    moved.rename(text)
    text.write_text(before)
    run_stages(config, workdir)
    assert capsys.readouterr().out.count("prepare: finished before, skipped") == 2


def test_other_text_is_not_prepared_for_networks_that_have_been_trained(
    tmp_path: pathlib.Path,
) -> None:
    config, workdir, text = prepared(tmp_path)
    text.write_text(text.read_text().replace("sees", "hears"))
    workdir.done_path("prepare").unlink()
    (workdir.supernet / "checkpoints" / "3").mkdir(parents=True)
    tokenizer = workdir.tokenizer_path.read_bytes()
    with pytest.raises(UserError, match="the text has changed since supernet began"):
        run_stages(config, workdir)
    assert workdir.tokenizer_path.read_bytes() == tokenizer
    (workdir.supernet / "checkpoints" / "3").rmdir()
    run_stages(config, workdir)
    assert workdir.tokenizer_path.read_bytes() != tokenizer
