"""Predictors of latency on the architectures that HAT measured, against HAT's own predictor.

    python -m benchmarks.latency_predictor --data=DIR [--seeds=5]

DIR holds the CSV files of https://github.com/mit-han-lab/hardware-aware-transformers, folder
latency_dataset: ten averaged features of 2000 architectures, their latency and its standard
deviation. Needs scikit-learn, which `pip install "automoe-jax[bench]"` installs. Prints a Markdown
table: mean relative error of the test architectures in per cent, the mean over splits of 80, 10 and
10 per cent.
"""

import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import kendalltau

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.errors import UserError
from automoe_jax.latency.predictor import ITERATIONS, SMALLEST
from automoe_jax.report.tables import markdown_rows

STEPS, BATCH, WIDTH, RATE = 5000, 128, 400, 1e-5  # of HAT's predictor
FEATURES = 10
Predict = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


class Measured(NamedTuple):
    """One of the sets."""

    name: str
    features: np.ndarray  # [N, 10]
    ms: np.ndarray  # [N]
    deviation: np.ndarray  # [N], of the mean of a row's runs, in ms


def read(path: Path) -> Measured:
    """The set in a CSV file of HAT."""
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    ms, deviations = table[:, FEATURES : FEATURES + 2].sum(axis=1), table[:, FEATURES + 2 :]
    return Measured(path.stem, table[:, :FEATURES], ms, np.sqrt((deviations**2).sum(axis=1)))


def work(features: np.ndarray) -> np.ndarray:
    """Products of the features that the work of a layer is linear in: [N, 21]."""
    e, le, fe, he, d, ld, fd, hd, hx, seen = features.T
    columns = [
        *(np.ones_like(e), e, d, le, ld),
        *(le * e, le * fe, le * he, le * e * fe, le * he * e),
        *(ld * d, ld * fd, ld * hd, ld * hx, ld * seen, ld * d * fd, ld * hd * d),
        *(ld * seen * e, ld * hx * seen, ld * hx * d, le * ld),
    ]
    return np.stack(columns, axis=1)


def least_squares(x: np.ndarray, y: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Least squares of relative errors on `work`."""
    table, scale = work(x), np.abs(work(x)).max(axis=0)
    coefficients = np.linalg.lstsq(table / scale / y[:, None], np.ones(len(y)), rcond=None)[0]
    return np.asarray(work(test) / scale @ coefficients)


def layer_table(x: np.ndarray, y: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """A cost for each kind of layer, of its width, heads and experts: an additive table."""
    used = [0, 3, 4, 6, 7, 11, 12, 13, 14]
    table = work(x)[:, used]
    scale = np.abs(table).max(axis=0)
    coefficients = np.linalg.lstsq(table / scale / y[:, None], np.ones(len(y)), rcond=None)[0]
    return np.asarray(work(test)[:, used] / scale @ coefficients)


def least_errors(x: np.ndarray, y: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Least absolute relative errors on `work`, as `automoe_jax.latency.predictor` fits them, but
    with negative coefficients too: HAT's features are means over layers.
    """
    table, weights = work(x), np.ones(len(y))
    scale = np.abs(table).max(axis=0)
    relative = table / scale / y[:, None]
    for _ in range(ITERATIONS):
        coefficients = np.linalg.lstsq(relative * weights[:, None], weights, rcond=None)[0]
        weights = np.maximum(np.abs(relative @ coefficients - 1), SMALLEST) ** -0.5
    return np.asarray(work(test) / scale @ coefficients)


def boosting(x: np.ndarray, y: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Gradient boosting of the logarithm on features and `work`."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=400, learning_rate=0.05, max_leaf_nodes=15, random_state=seed
    )
    model.fit(np.hstack([x, work(x)]), np.log(y))
    return np.exp(model.predict(np.hstack([test, work(test)])))


def boosted_squares(x: np.ndarray, y: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Least squares, whose ratio to the measurement is boosted."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    base, there = least_squares(x, y, x, seed), least_squares(x, y, test, seed)
    model = HistGradientBoostingRegressor(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=20, random_state=seed
    )
    model.fit(np.hstack([x, work(x)]), np.log(y / base))
    return np.asarray(there * np.exp(model.predict(np.hstack([test, work(test)]))))


def ensemble(x: np.ndarray, y: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """The geometric mean of `boosting` and `boosted_squares`."""
    both = (boosting(x, y, test, seed), boosted_squares(x, y, test, seed))
    return np.asarray(np.exp(np.mean(np.log(both), axis=0)))


def hat(x: np.ndarray, y: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """HAT's predictor: five linear layers of width 400 with ReLU, squared error, Adam at 1e-5 for
    5000 updates of 128 architectures; features and latency are divided by their largest.
    """
    scale, largest = x.max(axis=0), y.max()
    widths = [FEATURES, *[WIDTH] * 4, 1]
    keys = jax.random.split(jax.random.key(seed), len(widths))
    linear = functools.partial(jax.random.uniform, minval=-1, maxval=1)
    params = [
        (linear(keys[i], (a, b)) / a**0.5, linear(keys[-1], (b,)) / a**0.5)
        for i, (a, b) in enumerate(itertools.pairwise(widths))
    ]
    order = np.random.default_rng(seed)
    batches = order.integers(0, len(x), (STEPS, min(BATCH, len(x))))
    trained = _trained(params, jnp.asarray(x / scale), jnp.asarray(y / largest), batches)
    return np.asarray(_mlp(trained, jnp.asarray(test / scale))) * largest


@jax.jit
def _trained(params: list, x: jax.Array, y: jax.Array, batches: jax.Array) -> list:
    optimizer = optax.adam(RATE)

    def step(state: tuple, batch: jax.Array) -> tuple[tuple, None]:
        params, moments = state
        gradient = jax.grad(lambda p: jnp.mean((_mlp(p, x[batch]) - y[batch]) ** 2))(params)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, updates), moments), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return params


def _mlp(params: list, x: jax.Array) -> jax.Array:
    for kernel, bias in params[:-1]:
        x = jax.nn.relu(x @ kernel + bias[None])
    kernel, bias = params[-1]
    return (x @ kernel + bias[None])[:, 0]


PREDICTORS: dict[str, Predict] = {
    "HAT's MLP": hat,
    "table per layer kind": layer_table,
    "least squares": least_squares,
    "least absolute errors": least_errors,
    "gradient boosting": boosting,
    "boosted least squares": boosted_squares,
    "ensemble of both": ensemble,
}


def evaluate(measured: Measured, predict: Predict, seed: int) -> tuple[float, float, float]:
    """Mean and worst relative error and Kendall's τ on the test tenth of a split."""
    order = np.random.default_rng(seed).permutation(len(measured.ms))
    train, test = order[: int(0.8 * len(order))], order[int(0.9 * len(order)) :]
    x, y = measured.features, measured.ms
    predicted = predict(x[train], y[train], x[test], seed)
    errors = np.abs(predicted / y[test] - 1)
    return errors.mean(), errors.max(), kendalltau(predicted, y[test])[0]


def main() -> None:
    """Prints the table."""
    parser = Parser("benchmarks.latency_predictor", "Predictors of latency on HAT's measurements.")
    parser.add_argument("--data", required=True, help="folder of HAT's CSV files")
    parser.add_argument(
        "--without", default="", help="predictors to leave out, separated by commas"
    )
    parser.add_argument("--seeds", type=int, default=5, help="splits (default: 5)")
    flags = parser.parse()
    paths = sorted(Path(flags.data).glob("*.csv"))
    if not paths:
        raise UserError(
            f"--data={flags.data} holds no CSV files; name HAT's folder latency_dataset"
        )
    left_out = [name.strip() for name in flags.without.split(",")]
    predictors = {name: one for name, one in PREDICTORS.items() if name not in left_out}
    rows = []
    for path in paths:
        measured = read(path)
        cells = []
        for name, predict in predictors.items():
            errors = [evaluate(measured, predict, seed) for seed in range(flags.seeds)]
            mean, worst, tau = np.mean(errors, axis=0)
            cells.append(f"{100 * mean:.1f} ({100 * worst:.0f}, {tau:.2f})")
            print(f"{measured.name}: {name}: {cells[-1]}", file=sys.stderr)
        floor = 100 * np.mean(measured.deviation / measured.ms)
        rows.append([measured.name, *cells, f"{floor:.1f}"])
    print(markdown_rows(["set", *predictors, "standard deviation of a row"], rows))


if __name__ == "__main__":
    sys.exit(run_for_people(main))
