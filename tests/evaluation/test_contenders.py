"""Candidates of which the best is used: the plan, the choice, and the move of its training run."""

import dataclasses
import pathlib

import numpy as np
import pytest
from etils import epath

from automoe_jax.config import Config, RetrainConfig, from_flat
from automoe_jax.errors import UserError
from automoe_jax.evaluation import contenders
from automoe_jax.evaluation.contenders import Contender
from automoe_jax.latency import search
from automoe_jax.names import SUMMARY_FILE
from automoe_jax.runtime.files import write_json
from automoe_jax.search import history
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir
from tests.report.candidates import candidate

CONFIG = Config(retrain=RetrainConfig(candidates=2))
SPACE = CONFIG.space
CHOSEN = "chosen of 2 trained candidates by validation BLEU:"
ARCHS = [SPACE.largest(), SPACE.largest_dense(), SPACE.smallest()]


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> Workdir:
    made = Workdir(epath.Path(tmp_path))
    write_json(made.arch_path, ARCHS[0].to_dict())
    for arch, loss in zip(ARCHS, (2.0, 1.0, 3.0), strict=True):
        one = dataclasses.replace(candidate(loss, 1e6, "random"), arch=arch)
        history.append(made.candidates_path, one)
    return made


def trained(workdir: Workdir, index: int) -> None:
    """A training run as far as files go."""
    folder = workdir.contender(index)
    (folder / "final").mkdir(parents=True)
    (folder / "final" / "weights").write_text(str(index))
    (folder / "metrics.jsonl").write_text("")
    write_json(folder / SUMMARY_FILE, {"index": index})


def test_the_searchs_result_is_first_and_the_plan_lasts(workdir: Workdir):
    planned = contenders.planned(CONFIG, workdir)
    assert [one.arch for one in planned] == [ARCHS[0], ARCHS[1]]
    trained(workdir, 0)
    workdir.candidates_path.unlink()
    assert contenders.planned(CONFIG, workdir) == planned, "an interrupted stage continues with it"


def test_fewer_candidates_than_wanted(workdir: Workdir, capsys: pytest.CaptureFixture[str]):
    config = dataclasses.replace(CONFIG, retrain=RetrainConfig(candidates=9))
    assert len(contenders.planned(config, workdir)) == 3
    assert "3 candidates, since the search found no others" in capsys.readouterr().out


def test_the_searchs_result_stays_where_none_is_within_the_limit_today(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
):
    limit = dataclasses.replace(CONFIG.search, max_latency_ms=8.0)
    monkeypatch.setattr(contenders, "admitted_finalists", lambda *_: [])
    monkeypatch.setattr(history, "load_within", lambda *_: [])
    monkeypatch.setattr(Workdir, "spec", lambda *_: None)
    planned = contenders.planned(dataclasses.replace(CONFIG, search=limit), workdir)
    assert [one.arch for one in planned] == [ARCHS[0]]


def test_the_highest_validation_score_is_chosen_once(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
):
    scores = {0: 20.0, 1: 21.5}
    asked: list[int] = []

    def score(config: Config, workdir: Workdir, index: int, arch: object) -> float:
        asked.append(index)
        return scores[index]

    monkeypatch.setattr(contenders, "_score", score)
    planned = contenders.planned(CONFIG, workdir)
    known = [dataclasses.replace(planned[0], score=20.0), planned[1]]
    index, _ = contenders.chosen(CONFIG, workdir, known)
    assert (index, asked) == (1, [1]), "a known score is not computed again"
    assert workdir.arch() == ARCHS[1]
    loaded = contenders.load(workdir)
    assert loaded == [Contender(ARCHS[0], 20.0), Contender(ARCHS[1], 21.5, chosen=True)]
    note = contenders.note(CONFIG, workdir)
    assert note == "chosen of 2 trained candidates by validation BLEU: 21.50 against 20.00"


@pytest.mark.parametrize(
    ("times", "wanted", "said"),
    [
        (
            (7.0, 9.0),
            0,
            f"{CHOSEN} 20.00 against 21.50; beyond the limit of latency once trained: 1",
        ),
        (
            (9.0, 7.0),
            1,
            f"{CHOSEN} 21.50 against 20.00; beyond the limit of latency once trained: 1",
        ),
        ((7.0, 7.5), 1, f"{CHOSEN} 21.50 against 20.00"),
        (
            (8.5, 9.0),
            0,
            "the fastest of 2 trained candidates, which all exceed the limit of latency; validation"
            " BLEU 20.00 against 21.50",
        ),
    ],
)
def test_of_those_within_the_limit_once_trained(
    workdir: Workdir,
    monkeypatch: pytest.MonkeyPatch,
    times: tuple[float, float],
    wanted: int,
    said: str,
):
    limit = dataclasses.replace(CONFIG.search, max_latency_ms=8.0)
    config = dataclasses.replace(CONFIG, search=limit)
    monkeypatch.setattr(contenders, "_network", lambda config, workdir, index, arch: index)
    monkeypatch.setattr(contenders, "deployed_model", lambda network, *_: network)
    monkeypatch.setattr(contenders, "_dense", lambda *_: None)
    monkeypatch.setattr(search, "repeated", lambda *_: np.array([[10.0, *times]] * 3))
    monkeypatch.setattr(Workdir, "spec", lambda *_: None)
    planned = [Contender(ARCHS[0], 20.0), Contender(ARCHS[1], 21.5)]
    index, scored = contenders.chosen(config, workdir, planned)
    assert index == wanted
    assert tuple(one.milliseconds for one in scored) == times
    assert contenders.load(workdir) == scored
    assert contenders.note(config, workdir) == said


@pytest.mark.parametrize("moved", [(), ("final",), ("final", "metrics.jsonl")], ids=str)
def test_a_move_that_was_interrupted_is_completed(workdir: Workdir, moved: tuple[str, ...]):
    trained(workdir, 1)
    workdir.retrained.mkdir(parents=True)
    for name in moved:
        (workdir.contender(1) / name).rename(workdir.retrained / name)
    assert not runs.is_complete(workdir.retrained)
    contenders.install(workdir, 1)
    assert runs.is_complete(workdir.retrained)
    assert (workdir.retrained / "final" / "weights").read_text() == "1"
    assert not workdir.contender(1).exists()
    contenders.install(workdir, 1)  # nothing is left to move
    assert runs.is_complete(workdir.retrained)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retrain.candidates": 0}, r"retrain.candidates=0 must be"),
        ({"retrain.candidates": 2, "retrain.arch": "front:1"}, r"=2 needs config.retrain.arch="),
        (
            {
                "retrain.candidates": 2,
                **{
                    f"space.{field.name}": getattr(SPACE, field.name)[:1]
                    for field in dataclasses.fields(SPACE)
                    if isinstance(getattr(SPACE, field.name), tuple)
                },
            },
            r"config.space has one",
        ),
    ],
)
def test_mistakes(settings: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        from_flat(settings)
