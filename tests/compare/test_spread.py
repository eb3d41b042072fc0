"""The variation between trainings, against made-up runs of which it is known."""

import dataclasses
import pathlib

import numpy as np
import pytest

from automoe_jax.compare.results import Record, load_record
from automoe_jax.compare.spread import Spread, spread

ROOT = pathlib.Path(__file__).parents[2]
RECORD = load_record(ROOT / "docs" / "results" / "eight_epochs", "dense-1")


def runs(bleu: np.ndarray) -> list[Record]:
    """Records of systems × seeds with this BLEU; NaN: no such run."""
    row = RECORD.rows[0]
    return [
        dataclasses.replace(
            RECORD,
            name=f"system {system}",
            seed=seed,
            rows=(dataclasses.replace(row, bleu=float(value)),),
        )
        for (system, seed), value in np.ndenumerate(bleu)
        if not np.isnan(value)
    ]


def test_what_systems_and_seeds_add_is_no_variation() -> None:
    found = spread(runs(np.add.outer([20.0, 18.5, 12.0], [0.0, 0.7])))
    assert found is not None
    assert found.deviation == pytest.approx(0, abs=1e-9)
    assert (found.freedom, found.seeds, found.measure) == (2, 2, "BLEU")


def test_two_systems_and_two_seeds_by_hand() -> None:
    """Residuals are ±(a − b − c + d) / 4 with one degree of freedom."""
    found = spread(runs(np.array([[20.0, 21.0], [18.0, 18.0]])))
    assert found is not None
    assert (found.freedom, found.deviation) == (1, pytest.approx(0.5))


@pytest.mark.parametrize("bleu", [[[20.0]], [[20.0, 21.0]], [[20.0], [18.0]]])
def test_runs_that_cannot_tell(bleu: list[list[float]]) -> None:
    assert spread(runs(np.array(bleu))) is None


def test_a_missing_run_costs_a_degree_of_freedom() -> None:
    bleu = np.add.outer(np.arange(4.0), [0.0, 0.5])
    whole = spread(runs(bleu))
    bleu[3, 1] = np.nan
    part = spread(runs(bleu))
    assert whole is not None
    assert part is not None
    assert (whole.freedom, part.freedom) == (3, 2)


def test_equal_systems_exceed_it_in_one_of_twenty_comparisons() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(scale=0.3, size=(1000, 6, 2)) + rng.normal(scale=2.0, size=(1000, 1, 2))
    beyond = []
    for bleu in drawn:
        found = spread(runs(bleu))
        assert found is not None
        beyond.append(abs(bleu[0].mean() - bleu[1].mean()) > found.exceeded)
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.02)


def test_in_words() -> None:
    assert str(Spread("BLEU", 0.2, 13, 2)) == (
        "Between trainings of a system BLEU has a standard deviation of 0.20 (degrees of freedom:"
        " 13), beyond what a seed adds to all systems. The intervals are about the choice of test"
        " texts and do not cover this: the means of two equal systems over 2 seeds differ by more"
        " than 0.43 in one of 20 comparisons."
    )
