"""The row of the shortlist."""

import dataclasses
import pathlib

import numpy as np
import pytest
from etils import epath

from automoe_jax.config import Config, EvaluateConfig
from automoe_jax.evaluation import shortlist as module
from automoe_jax.evaluation.results import Scored
from automoe_jax.evaluation.shortlist import missed_share, shortlist_row
from automoe_jax.export.cache import default_shortlist
from automoe_jax.inference.engine.shortlist import Shortlist
from automoe_jax.inference.engine.translator import load
from automoe_jax.report.rows import RETRAINED, Row
from automoe_jax.workdir import Workdir
from tests.inference.engine import folders

SIZE = 5


@pytest.mark.parametrize("accepted", [True, False])
def test_the_row_decides_the_default(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    folder = folders.write(tmp_path / "model")
    monkeypatch.setattr(module, "exported", lambda root, precision: folder)
    config = dataclasses.replace(Config(), evaluate=EvaluateConfig(shortlist=SIZE))
    sources = folders.LINES * 3
    own = load(folder, shortlist=SIZE)(sources)
    better = [f"a {line} sentence of a few words" for line in sources]
    references, exact = (own, better) if accepted else (better, better)
    workdir = Workdir(epath.Path(tmp_path / "run"))
    scored = shortlist_row(config, workdir, Scored(Row(*RETRAINED), exact), sources, references)
    assert scored.outputs == own
    assert scored.row.title == "retrained sub-Transformer (shortlist of 5)"
    assert "of the reference pieces and is " in scored.row.note
    assert ("is not the default" in scored.row.note) != accepted
    assert default_shortlist(str(workdir.root)) == (SIZE if accepted else 0)
    again = shortlist_row(config, workdir, Scored(Row(*RETRAINED), []), [], [])
    assert again == scored


def test_the_share_of_missed_pieces() -> None:
    shortlist = Shortlist(np.array([0, 1, 2]), np.array([9]), np.full((20, 1), -1))
    shortlist.translations[5] = 15
    references = [np.array([15, 16, 9, 5]), np.array([15, 17])]
    assert missed_share(shortlist, 1, [np.array([5]), np.array([6])], references) == 3 / 6
