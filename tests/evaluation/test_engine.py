"""Rows of the inference engine, and the defaults of `translate`."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from etils import epath

from automoe_jax.config import Config, EvaluateConfig
from automoe_jax.evaluation import engine as module
from automoe_jax.evaluation.engine import Deployed, defaults, deployed_rows
from automoe_jax.evaluation.results import Scored
from automoe_jax.export import cache
from automoe_jax.export.settings import PRECISIONS
from automoe_jax.inference.engine.translator import Translator
from automoe_jax.report.rows import RETRAINED, Row
from automoe_jax.workdir import Workdir
from tests.inference.engine import folders

SIZE = 5
FLOAT, INT = Deployed("float32"), Deployed("int8")
SHORT, BOTH = Deployed("float32", SIZE), Deployed("int8", SIZE)


@pytest.mark.parametrize(
    ("lost", "precision", "sizes"),
    [
        ({}, "float32", (0, 0)),
        ({INT: 0.3}, "int8", (0, 0)),
        ({INT: -0.2}, "int8", (0, 0)),
        ({INT: 0.31}, "float32", (0, 0)),
        ({SHORT: 0.09}, "float32", (SIZE, 0)),
        ({SHORT: 0.1}, "float32", (0, 0)),
        ({INT: 0.2, SHORT: 0.05, BOTH: 0.3}, "int8", (SIZE, SIZE)),
        ({INT: 0.2, SHORT: 0.05, BOTH: 0.31}, "int8", (SIZE, 0)),
        ({INT: 0.2, SHORT: 0.1, BOTH: 0.2}, "int8", (0, 0)),
        ({INT: 0.4, SHORT: 0.05, BOTH: 0.2}, "float32", (SIZE, SIZE)),
    ],
)
def test_what_loses_little_is_the_default(
    lost: dict[Deployed, float], precision: str, sizes: tuple[int, int]
) -> None:
    assert defaults({FLOAT: 0.0} | lost) == (precision, {"float32": sizes[0], "int8": sizes[1]})


@pytest.mark.parametrize("best", [FLOAT, SHORT, BOTH])
def test_the_rows_decide_the_defaults(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, best: Deployed
) -> None:
    folder = {name: folders.write(tmp_path / name, precision=name) for name in PRECISIONS}
    monkeypatch.setattr(module, "exported", lambda root, precision: folder[precision])
    good = {FLOAT, best} | ({INT, SHORT} if best == BOTH else set())

    def translated(
        translator: Translator, lines: list[str], progress: Callable[[int], Any] = len
    ) -> list[str]:
        way = Deployed(translator.folder.description.precision, translator.shortlist_size)
        end = "sees one bird there" if way in good else "sees no bird"
        return [f"{line} {end}" for line in lines]

    monkeypatch.setattr(Translator, "__call__", translated)
    evaluate = EvaluateConfig(int8=True, shortlist=SIZE)
    config = dataclasses.replace(Config(), evaluate=evaluate)
    sources = folders.LINES * 3
    references = [f"{line} sees one bird there" for line in sources]
    root = tmp_path / "run"
    workdir, exact = Workdir(epath.Path(root)), Scored(Row(*RETRAINED), references)
    rows = deployed_rows(config, workdir, exact, sources, references)
    assert [scored.row.variant for scored in rows] == [
        "onnx",
        "int8",
        "shortlist of 5",
        "int8, shortlist of 5",
    ]
    for way, scored in zip((FLOAT, INT, SHORT, BOTH), rows, strict=True):
        (low, high), (least, most) = scored.row.bleu_interval, scored.row.chrf_interval
        assert (scored.row.bleu_difference == low == high == 0) == (way in good)
        assert (scored.row.chrf_difference == least == most == 0) == (way in good)
        assert ("of the reference pieces" in scored.row.note) == bool(way.shortlist)
        assert ("the default of translate" in scored.row.note) == (way == best)
    assert cache.default_precision(str(root)) == best.precision
    assert cache.default_shortlist(str(root), best.precision) == best.shortlist
    again = deployed_rows(config, workdir, Scored(Row(*RETRAINED), []), [], [])
    assert again == rows
    saved = json.loads((root / "evaluate" / f"{best.key}.json").read_text())
    assert "default" not in saved["note"]
