"""Latency of the trained networks as they are deployed, interleaved: one batch under the conditions
of `config.search.device`, and full batches.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from automoe_jax.config import Config
from automoe_jax.evaluation.networks import trained_network
from automoe_jax.export.network import inputs_of
from automoe_jax.latency.device import conditions_of
from automoe_jax.latency.timing import Model, TimingConditions, build, repeated
from automoe_jax.model.network import Network
from automoe_jax.report.rows import Row, RowKey
from automoe_jax.search.limits import needs_device
from automoe_jax.workdir import Workdir

FULL = 32  # sentences of a full batch
ROUNDS = 9  # of each repeat
ROUNDS_OF_FULL = 3


def is_measured(config: Config) -> bool:
    """Whether an evaluation measures these latencies: where a limit needs the device, or latency is
    timed anyway.
    """
    wanted = needs_device(config.search) or config.evaluate.latency_runs > 0
    return wanted and config.task == "translate"


def with_latencies(
    config: Config, workdir: Workdir, rows: Sequence[Row], keys: Sequence[RowKey]
) -> list[Row]:
    """The rows, those with these keys with their latencies."""
    conditions = conditions_of(config)
    alone = _times(config, workdir, rows, keys, conditions, ROUNDS)
    full = dataclasses.replace(conditions, batch=FULL)
    batches = _times(config, workdir, rows, keys, full, ROUNDS_OF_FULL)
    return [
        dataclasses.replace(
            row,
            deployed_ms=round(alone[row.key], 4),
            deployed_sentences_per_second=round(1000 * FULL / batches[row.key], 1),
        )
        if row.key in alone
        else row
        for row in rows
    ]


def _times(
    config: Config,
    workdir: Workdir,
    rows: Sequence[Row],
    keys: Sequence[RowKey],
    conditions: TimingConditions,
    rounds: int,
) -> Mapping[RowKey, float]:
    """Milliseconds of a batch of each network: the median of the repeats."""
    present = [row.key for row in rows if row.key in keys]
    networks = (trained_network(config, workdir, key.role) for key in present)
    models = [deployed_model(network, config, conditions) for network in networks]
    title = "latency, one batch" if conditions.batch != FULL else "latency, full batches"
    times = np.median(repeated(models, rounds, title), axis=0).tolist()
    return dict(zip(present, times, strict=True))


def deployed_model(network: Network, config: Config, conditions: TimingConditions) -> Model:
    """A trained network in the deployed engine, ready to be timed."""
    arch, settings, weights = inputs_of(
        network, config.data.buckets, config.search.device.precision
    )
    longest = max(settings.max_source, conditions.source_length)
    most = max(settings.max_target, conditions.target_length)
    settings = dataclasses.replace(settings, max_source=longest, max_target=most)
    return build(arch, settings, conditions, weights)
