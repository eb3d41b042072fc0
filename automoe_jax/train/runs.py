"""A training run in a folder: trains once, then loads.

The folder holds metrics, checkpoints, the resulting weights in `final/` and `summary.json`, which
is written last.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from etils import epath

from automoe_jax.config import DataConfig
from automoe_jax.data.batching import TokenPairs, evaluation_batches, train_batches
from automoe_jax.data.shards import held_rows
from automoe_jax.errors import UserError
from automoe_jax.model.network import Network, Spec, abstract
from automoe_jax.names import SUMMARY_FILE
from automoe_jax.runtime.files import read_json, readable, write_json
from automoe_jax.runtime.processes import is_first
from automoe_jax.train.checkpoint import load_params, save_params
from automoe_jax.train.loop import Run, train

_WEIGHTS = "final"


class Summary(NamedTuple):
    """Figures of a finished run."""

    updates: int
    tokens: int  # non-pad target tokens
    seconds: float  # in training, interruptions not counted
    validation_nll: float  # nats per token, of the resulting weights; NaN: unknown


def complete(
    run: Run,
    start: Callable[[], Network],
    data: DataConfig,
    training: TokenPairs,
    validation: TokenPairs,
) -> Summary:
    """Trains the run unless its folder shows that it is finished; `start` returns the initial
    network.
    """
    if is_complete(run.folder):
        return summary(run.folder)
    parts, accumulate = run.placement.sentence_parts, run.train.accumulate
    held = functools.partial(held_rows, run.placement, accumulate)
    batches = train_batches(
        training,
        data.buckets,
        run.train.tokens_per_batch,
        run.seed,
        multiple_of=accumulate * parts,
        held=held,
    )
    micro_tokens = run.train.tokens_per_batch // accumulate
    trained = train(
        run,
        start(),
        batches,
        evaluation_batches(validation, data.buckets, micro_tokens, multiple_of=parts),
    )
    finished = Summary(run.train.steps, trained.tokens, trained.seconds, trained.validation_nll)
    save(run.folder, trained.network, finished)
    return finished


def save(folder: epath.Path, network: Network, summary: Summary) -> None:
    """Writes the results of a finished run; all processes with parts of the weights call it."""
    save_params(folder / _WEIGHTS, network.params)
    if is_first():
        write_json(folder / SUMMARY_FILE, summary._asdict())


def is_complete(folder: epath.Path) -> bool:
    """Whether the run in this folder is finished."""
    return all(path.exists() for path in results(folder))


def results(folder: epath.Path) -> list[epath.Path]:
    """Paths that a finished run writes: the summary and the folder of the resulting weights."""
    return [folder / SUMMARY_FILE, folder / _WEIGHTS]


def summary(folder: epath.Path) -> Summary:
    """The summary of a finished run."""
    path = folder / SUMMARY_FILE
    with readable(path):
        return Summary(**read_json(path))


def load(folder: epath.Path, spec: Spec) -> Network:
    """The resulting weights of a finished run; raises `UserError` if it is not finished."""
    if not is_complete(folder):
        raise UserError(
            f"there is no finished training in {folder}; run the stage that trains it first"
        )
    return Network(load_params(folder / _WEIGHTS, abstract(spec).params), spec)
