"""How much equal trainings differ, which a bootstrap over the test text does not tell.

Axes: R runs · S systems · D seeds.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from automoe_jax.compare.results import Record
from automoe_jax.report.contents import number, quality

ONE_IN = 20  # comparisons of equal systems beyond `Spread.exceeded`


@dataclasses.dataclass(frozen=True)
class Spread:
    """The variation of quality between trainings, beyond what a seed adds to every system."""

    measure: str  # of quality
    deviation: float  # standard deviation of a run, in points of the measure
    freedom: int  # degrees of freedom of this estimate
    seeds: int  # of the system with most of them

    @property
    def exceeded(self) -> float:
        """Points by which the means of two equal systems over `seeds` seeds differ in one of
        `ONE_IN` comparisons.
        """
        quantile = float(t.ppf(1 - 0.5 / ONE_IN, self.freedom))
        return quantile * self.deviation * math.sqrt(2 / self.seeds)

    def __str__(self) -> str:
        return (
            f"Between trainings of a system {self.measure} has a standard deviation of"
            f" {self.deviation:.2f} (degrees of freedom: {self.freedom}), beyond what a seed adds"
            " to all systems. The intervals are about the choice of test texts and do not cover"
            f" this: the means of two equal systems over {self.seeds} seeds differ by more than"
            f" {self.exceeded:.2f} in one of {ONE_IN} comparisons."
        )


def spread(records: Sequence[Record]) -> Spread | None:
    """The residuals of quality = system + seed, fitted by least squares; of each run the first row.

    None if the runs leave no degree of freedom: at least two systems with two seeds each do.
    """
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
    fitted, _, rank, _ = np.linalg.lstsq(design, values)
    freedom = len(values) - int(rank)
    if not freedom:
        return None
    residuals = values - design @ fitted
    return Spread(
        measure="accuracy" if judged.key == "accuracy" else judged.unit,
        deviation=float(np.sqrt(np.square(residuals).sum() / freedom)),
        freedom=freedom,
        seeds=int(systems.sum(axis=0).max()),
    )


def _indicators(labels: Sequence[str] | Sequence[int]) -> np.ndarray:
    """[R, L]: one where a run has the label."""
    return (np.array(labels)[:, None] == np.unique(labels)).astype(float)
