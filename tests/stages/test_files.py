"""Stages that have to run."""

import dataclasses
import pathlib

from etils import epath

from automoe_jax.config import STAGES, Config
from automoe_jax.runtime.files import write_json
from automoe_jax.stages.files import read, searches, unfinished
from automoe_jax.workdir import Workdir


def config(stages: str = ",".join(STAGES), **retrain: str) -> Config:
    changed = dataclasses.replace(Config().retrain, **retrain)  # type: ignore[arg-type]
    return dataclasses.replace(Config(), stages=stages, retrain=changed)


def test_a_given_architecture_needs_no_search_where_the_stages_leave_it_out(
    tmp_path: pathlib.Path,
) -> None:
    few = "prepare,retrain,evaluate,report"
    given = config(few, arch="a.json")
    assert not searches(given)
    for one in (
        config(),
        config(few),
        config(arch="a.json"),
        config("search,retrain", arch="a.json"),
        config(few, arch="front:2"),
        config(few, arch="a.json", init="inherited"),
    ):
        assert searches(one)
    workdir = Workdir(epath.Path(tmp_path))
    assert list(unfinished(config(few), workdir)) == list(reversed(STAGES))
    assert sorted(unfinished(given, workdir)) == sorted(few.split(","))
    for stage in ("retrain", "evaluate", "report"):
        paths = read(stage, given, workdir)
        assert not {workdir.arch_path, workdir.candidates_path} & set(paths)
        assert not any(workdir.supernet in path.parents for path in paths)
    write_json(workdir.done_path("prepare"), {"seconds": 1.0})
    waiting = unfinished(given, workdir)
    assert waiting["prepare"] == workdir.tokenizer_path
