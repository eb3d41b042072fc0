"""Kendall's τ against SciPy's, with ties, and its bootstrap intervals."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from automoe_jax.rank.correlation import RESAMPLES, Correlation


def with_ties(seed: int, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, 9, count)
    return losses, losses + rng.integers(0, 4, count)


@pytest.mark.parametrize("seed", range(5))
def test_is_scipys_tau_of_the_networks_and_of_every_resample(seed: int) -> None:
    losses, predicted = with_ties(seed)
    found = Correlation({"one": predicted}, losses)
    assert found.tau("one").value == pytest.approx(kendalltau(predicted, losses)[0])

    count = len(losses)
    drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=RESAMPLES)
    for weights, tau in list(zip(drawn, found._taus["one"][1:], strict=True))[:50]:
        sample = np.repeat(np.arange(count), weights)
        assert tau == pytest.approx(kendalltau(predicted[sample], losses[sample])[0])


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(60):
        draws = np.random.default_rng(seed).normal(size=(2, 24))
        interval = Correlation({"one": draws[0] + draws[1]}, draws[0]).tau("one")
        inside += interval.low <= 0.5 <= interval.high  # τ = 2/π · asin(ρ), ρ = √½
    assert inside >= 50


def test_differences_are_paired() -> None:
    losses, predicted = with_ties(1, 24)
    found = Correlation({"one": predicted, "same": 2 * predicted + 1, "none": 0 * losses}, losses)
    assert found.difference("one", "same") == (0, 0, 0)
    assert found.tau("none") == (0, 0, 0), "ties everywhere predict nothing"
    assert found.difference("one", "none") == found.tau("one")
