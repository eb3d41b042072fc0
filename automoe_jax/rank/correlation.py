"""Kendall's τ between predictions and losses of the same networks, with bootstrap intervals.

Axes: N networks · R resamples.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 10_000
_QUANTILES = (0.025, 0.975)


class Interval(NamedTuple):
    """A value, and 95 % of its resamples."""

    value: float
    low: float
    high: float


class Correlation:
    """τ of several predictors with the same losses; networks are resampled with replacement, the
    same ones for every predictor.

    τ is Kendall's τ-b, which takes ties into account; 0 where a predictor or the losses do not
    distinguish any two networks.
    """

    def __init__(self, predictors: Mapping[str, Sequence[float]], losses: Sequence[float]) -> None:
        count = len(losses)
        drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=RESAMPLES)
        weights = np.concatenate([np.ones((1, count)), drawn])
        truth = _signs(losses)
        # [1 + R] of each predictor: of the networks themselves, then of the resamples
        self._taus = {
            name: _tau(_signs(values), truth, weights) for name, values in predictors.items()
        }

    def tau(self, name: str) -> Interval:
        """τ of a predictor."""
        return _interval(self._taus[name])

    def difference(self, name: str, other: str) -> Interval:
        """τ of one predictor minus that of another, paired by resample."""
        return _interval(self._taus[name] - self._taus[other])


def _signs(values: Sequence[float]) -> Float[np.ndarray, "N N"]:
    array = np.asarray(values, np.float64)
    return np.sign(array[:, None] - array[None, :])


def _tau(
    a: Float[np.ndarray, "N N"], b: Float[np.ndarray, "N N"], weights: Float[np.ndarray, "R N"]
) -> Float[np.ndarray, "R"]:
    """τ-b of networks that occur `weights` times: Σ sign·sign / √(Σ sign² · Σ sign²) over pairs."""

    def over_pairs(signs: np.ndarray) -> np.ndarray:
        return np.sum((weights @ signs) * weights, axis=1)

    distinguished = over_pairs(np.abs(a)) * over_pairs(np.abs(b))
    return over_pairs(a * b) / np.sqrt(np.maximum(distinguished, 1.0))


def _interval(values: Float[np.ndarray, "R"]) -> Interval:
    low, high = np.quantile(values[1:], _QUANTILES)
    return Interval(float(values[0]), float(low), float(high))
