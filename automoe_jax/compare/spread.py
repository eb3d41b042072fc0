"""How much equal trainings differ, which a bootstrap over the test text does not tell.

    python -m automoe_jax.compare.spread --baseline=dense
    --results=docs/results/eight_epochs,docs/results/repeats

prints the difference of every system from the baseline over all runs of these folders, and what
the difference of equal systems exceeds in one of 20 comparisons.

Axes: R runs · S systems · D seeds · SD systems and seeds · L labels.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.compare.results import Record, load_records
from automoe_jax.errors import UserError
from automoe_jax.report.contents import number, quality
from automoe_jax.report.tables import markdown_rows

ONE_IN = 20  # comparisons of equal systems beyond `Spread.exceeded`
LEAST = 5  # degrees of freedom: with fewer an estimate says little


@dataclasses.dataclass(frozen=True)
class Spread:
    """The variation of quality between trainings, beyond what a seed adds to every system."""

    measure: str  # of quality
    deviation: float  # standard deviation of a run, in points of the measure
    freedom: int  # degrees of freedom of this estimate
    seeds: int  # runs of the system with most of them

    @property
    def exceeded(self) -> float:
        """Points that the difference of the means of two equal systems over the same `seeds` seeds
        exceeds in one of `ONE_IN` comparisons.
        """
        return _quantile(self.freedom) * self.deviation * math.sqrt(2 / self.seeds)

    def __str__(self) -> str:
        return (
            f"Between trainings of a system {self.measure} has a standard deviation of"
            f" {self.deviation:.2f} (degrees of freedom: {self.freedom}), beyond what a seed adds"
            " to all systems. The intervals are about the choice of test texts and do not cover"
            f" this: the means of two equal systems over the same {self.seeds} seeds differ by more"
            f" than {self.exceeded:.2f} in one of {ONE_IN} comparisons."
        )


class Difference(NamedTuple):
    """A system's quality minus the baseline's, over all runs of both, a seed's effect taken out."""

    system: str
    points: float
    exceeded: float  # points that this exceeds for equal systems in one of `ONE_IN` comparisons


class _Fit(NamedTuple):
    """Quality = system + seed by least squares, over all runs with a known quality."""

    measure: str
    systems: list[str]  # [S]
    runs: Int[np.ndarray, "S"]  # of each system
    effects: Float[np.ndarray, "SD"]  # of the systems, then of the seeds
    products: Float[np.ndarray, "SD SD"]  # of the design with itself
    deviation: float  # of the residuals
    freedom: int


def spread(records: Sequence[Record]) -> Spread | None:
    """The residuals of quality = system + seed, fitted by least squares; of each run the first row.

    The variation is taken to be the same in all systems. None if the runs leave fewer than `LEAST`
    degrees of freedom; six systems with two seeds each leave five.
    """
    fit = _fitted(records)
    if fit is None:
        return None
    return Spread(fit.measure, fit.deviation, fit.freedom, int(fit.runs.max()))


def differences(records: Sequence[Record], baseline: str) -> list[Difference]:
    """Of every system from the baseline, the best first, with what chance exceeds under the same
    assumptions as `spread`. A run may be there several times, as when it was repeated.

    Raises `UserError` if the baseline has no run, or the runs do not tell: too few of them, or no
    seeds in common, not even by way of other systems.
    """
    fit = _fitted(records)
    if fit is None:
        raise UserError(
            f"these {len(records)} runs leave fewer than {LEAST} degrees of freedom; add seeds"
        )
    if baseline not in fit.systems:
        raise UserError(
            f"--baseline={baseline} has no run here; name one of {', '.join(fit.systems)}"
        )
    found, inverse = [], np.linalg.pinv(fit.products)
    for name in fit.systems:
        contrast = np.zeros(len(fit.effects))
        contrast[fit.systems.index(name)] += 1
        contrast[fit.systems.index(baseline)] -= 1
        if not np.allclose(fit.products @ inverse @ contrast, contrast):
            raise UserError(f"{name} and {baseline} have no seeds in common; run one with both")
        error = fit.deviation * math.sqrt(contrast @ inverse @ contrast)
        exceeded = _quantile(fit.freedom) * error
        found.append(Difference(name, float(contrast @ fit.effects), exceeded))
    return sorted(found, key=lambda one: -one.points)


def _fitted(records: Sequence[Record]) -> _Fit | None:
    judged = quality([record.rows[0] for record in records])
    measured = [
        (record.name, record.seed, value)
        for record in records
        if (value := number(record.rows[0], judged.key)) is not None
    ]
    if not measured:
        return None
    names, numbers, known = zip(*measured, strict=True)
    values = np.array(known)  # [R]
    systems, seeds = _indicators(names), _indicators(numbers)  # [R, S], [R, D]
    design = np.concatenate([systems, seeds], axis=1)
    effects, _, rank, _ = np.linalg.lstsq(design, values)
    freedom = len(values) - int(rank)
    if freedom < LEAST:
        return None
    residuals = values - design @ effects
    return _Fit(
        measure="accuracy" if judged.key == "accuracy" else judged.unit,
        systems=sorted(set(names)),
        runs=systems.sum(axis=0).astype(int),
        effects=effects,
        products=design.T @ design,
        deviation=float(np.sqrt(np.square(residuals).sum() / freedom)),
        freedom=freedom,
    )


def _quantile(freedom: int) -> float:
    """What Student's t exceeds, on either side, in one of `ONE_IN` cases."""
    return float(t.ppf(1 - 0.5 / ONE_IN, freedom))


def _indicators(labels: Sequence[str] | Sequence[int]) -> Float[np.ndarray, "R L"]:
    """One where a run has the label; labels are sorted."""
    return (np.array(labels)[:, None] == np.unique(labels)).astype(float)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the differences of all systems as a table."""
    parser = Parser("automoe_jax.compare.spread", "Differences beyond those of equal trainings.")
    parser.add_argument("--results", required=True, help="folders of records, with commas between")
    parser.add_argument("--baseline", default="dense", help="the system to compare with")
    flags = parser.parse(arguments)
    records = [
        record for folder in flags.results.split(",") for record in load_records(Path(folder))
    ]
    if not records:
        raise UserError(f"--results={flags.results} holds no finished run; name folders that do")
    if len({record.test for record in records}) > 1:
        raise UserError(
            f"the runs in --results={flags.results} translated different test texts; name folders"
            " of one text"
        )
    rows = [
        [one.system, f"{one.points:+.2f}", f"± {one.exceeded:.2f}"]
        for one in differences(records, flags.baseline)
        if one.system != flags.baseline
    ]
    print(markdown_rows(["system", f"− {flags.baseline}", "by chance"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(run_for_people(main))
