"""The variation between trainings, against made-up runs of which it is known."""

import dataclasses
import pathlib

import numpy as np
import pytest

from automoe_jax.compare.results import Record, load_record, load_records
from automoe_jax.compare.spread import Spread, differences, main, spread
from automoe_jax.compare.table import gather, write_table
from automoe_jax.errors import UserError

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
    found = spread(runs(np.add.outer([20.0, 18.5, 12.0, 7.0, 9.0, 8.0], [0.0, 0.7])))
    assert found is not None
    assert found.deviation == pytest.approx(0, abs=1e-9)
    assert (found.freedom, found.seeds, found.measure) == (5, 2, "BLEU")


def test_two_seeds_by_hand() -> None:
    """With two seeds the residuals are half the differences less their mean."""
    second = np.array([20.0, 18.0, 12.0, 7.0, 9.0, 8.0])
    added = np.array([1.0, 0.0, 0.4, 0.2, 0.9, 0.1])
    found = spread(runs(np.stack([second + added, second], axis=1)))
    assert found is not None
    assert found.deviation == pytest.approx(added.std(ddof=1) / np.sqrt(2))


@pytest.mark.parametrize("bleu", [[[20.0]], [[20.0, 21.0]], [[20.0], [18.0]], [[20, 21]] * 5])
def test_runs_that_cannot_tell(bleu: list[list[float]]) -> None:
    assert spread(runs(np.array(bleu))) is None


def test_a_missing_run_costs_a_degree_of_freedom() -> None:
    bleu = np.add.outer(np.arange(8.0), [0.0, 0.5])
    whole = spread(runs(bleu))
    bleu[7, 1] = np.nan
    part = spread(runs(bleu))
    assert whole is not None
    assert part is not None
    assert (whole.freedom, part.freedom) == (7, 6)
    assert part.deviation == pytest.approx(0, abs=1e-9)
    assert part.seeds == 2


def test_equal_systems_exceed_it_in_one_of_twenty_comparisons() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(scale=0.3, size=(1000, 6, 2)) + rng.normal(scale=2.0, size=(1000, 1, 2))
    beyond = []
    for bleu in drawn:
        found = spread(runs(bleu))
        assert found is not None
        beyond.append(abs(bleu[0].mean() - bleu[1].mean()) > found.exceeded)
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.02)


def test_differences_of_all_runs() -> None:
    """Of systems that share their seeds, differences of means; chance as for two means."""
    bleu = np.array([[3.0, 4.0], [5.0, 5.5], [1, 2], [2, 2], [7, 6], [8, 9]])
    records = runs(bleu)
    varied = spread(records)
    assert varied is not None
    found = {one.system: one for one in differences(records, "system 0")}
    assert found["system 1"].points == pytest.approx(bleu[1].mean() - bleu[0].mean())
    assert found["system 1"].exceeded == pytest.approx(varied.exceeded)
    assert found["system 0"][1:] == (0, 0)
    assert list(found)[:2] == ["system 5", "system 4"], "the best first"


def test_a_repeated_run_narrows_what_chance_exceeds() -> None:
    rng = np.random.default_rng(0)
    records = runs(rng.normal(size=(8, 2)))
    once, again = (
        {one.system: one.exceeded for one in differences(given, "system 0")}
        for given in (records, [*records, *runs(rng.normal(size=(2, 2)))])
    )
    assert again["system 1"] / again["system 7"] < 0.9 * once["system 1"] / once["system 7"]


@pytest.mark.parametrize(
    ("systems", "baseline", "message"),
    [(2, "system 0", "these 4 runs leave fewer than 5"), (8, "none", "--baseline=none has no run")],
)
def test_differences_that_cannot_be(systems: int, baseline: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        differences(runs(np.zeros((systems, 2))), baseline)


def test_systems_without_a_seed_in_common_are_not_compared() -> None:
    bleu = np.full((16, 4), np.nan)
    bleu[:8, :2] = bleu[8:, 2:] = 20.0
    with pytest.raises(UserError, match="system 10 and system 0 have no seeds in common"):
        differences(runs(bleu), "system 0")


def test_texts_are_not_mixed() -> None:
    folders = ",".join(str(ROOT / "docs" / "results" / name) for name in ("classify", "variants"))
    with pytest.raises(UserError, match="translated different test texts"):
        main([f"--results={folders}"])


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    folder = ROOT / "docs" / "results" / "classify"
    assert main([f"--results={folder}", "--baseline=top1"]) == 0
    first, rule, best, *_ = capsys.readouterr().out.splitlines()
    assert first == "| system | − top1 | by chance |"
    assert set(rule) <= set("|-: ")
    assert best.startswith("| da_moe_raw | +0.6")


def test_in_words() -> None:
    assert str(Spread("BLEU", 0.2, 13, 2)) == (
        "Between trainings of a system BLEU has a standard deviation of 0.20 (degrees of freedom:"
        " 13), beyond what a seed adds to all systems. The intervals are about the choice of test"
        " texts and do not cover this: the means of two equal systems over the same 2 seeds differ"
        " by more than 0.43 in one of 20 comparisons."
    )


def test_a_comparison_says_it_below_its_table(tmp_path: pathlib.Path) -> None:
    folder = ROOT / "docs" / "results" / "classify"
    records = load_records(folder)
    text = write_table(gather(folder, "none"), records, tmp_path, "none")
    assert str(spread(records)) in text
    assert (tmp_path / "comparison.md").read_text() == text
