"""Prediction of a cost from an architecture's features: the coefficients with the least absolute
relative errors that are not negative, so that more work never costs less.

Absolute errors, since a few measurements of a busy device are far off
(docs/benchmarks/latency_predictor.md compares others). Axes: N architectures · C features.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.optimize import nnls
from scipy.stats import kendalltau

from automoe_jax.arch import Arch
from automoe_jax.latency.features import features

FOLDS = 8  # of the held-out error
LEAST_HELD_OUT = 2  # architectures of which a held-out error is computed
ITERATIONS = 20
SMALLEST = 1e-3  # relative error from which on a weight grows no more


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A linear prediction; calling it gives the cost of an architecture."""

    coefficients: tuple[float, ...]  # [C], by `features.NAMES`

    def __call__(self, arch: Arch) -> float:
        return float(features(arch) @ np.asarray(self.coefficients))


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Errors of predictions of architectures that the predictor did not see."""

    mean: float  # of |predicted / measured − 1|
    worst: float
    rank_correlation: float  # Kendall's τ between predicted and measured


def fit(archs: Sequence[Arch], values: Sequence[float]) -> Predictor:
    """The predictor of measured values, all positive."""
    table = np.stack([features(arch) for arch in archs])
    return Predictor(tuple(_solved(table, np.asarray(values, np.float64)).tolist()))


def held_out(archs: Sequence[Arch], values: Sequence[float]) -> HeldOut:
    """Errors under cross-validation; every architecture is in one of `FOLDS` folds."""
    table = np.stack([features(arch) for arch in archs])
    measured = np.asarray(values, np.float64)
    predicted = np.empty(len(measured))
    folds = np.random.default_rng(0).permutation(len(measured)) % FOLDS
    for fold in range(FOLDS):
        test = folds == fold
        predicted[test] = table[test] @ _solved(table[~test], measured[~test])
    errors = np.abs(predicted / measured - 1)
    return HeldOut(
        float(errors.mean()), float(errors.max()), float(kendalltau(predicted, measured)[0])
    )


def _solved(
    table: Float64[np.ndarray, "N C"], values: Float64[np.ndarray, "N"]
) -> Float64[np.ndarray, "C"]:
    """Coefficients [C] of table [N,C] with the least absolute relative errors of values [N], by
    least squares that are weighted again and again.
    """
    scale = np.maximum(table.max(axis=0), 1e-12)
    relative, weights = table / scale / values[:, None], np.ones(len(values))
    for _ in range(ITERATIONS):
        coefficients, _ = nnls(relative * weights[:, None], weights)
        weights = np.maximum(np.abs(relative @ coefficients - 1), SMALLEST) ** -0.5
    return coefficients / scale
