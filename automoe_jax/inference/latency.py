"""Latency of translating one sentence on this device, encoder and decoder separately
(docs/costs.md, latency of the tables).

Axes: B sentences · S source tokens · k beams · T positions.
"""

import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32
from tqdm import tqdm

from automoe_jax.costs import LENGTH
from automoe_jax.errors import check_whole
from automoe_jax.inference.classify import batch_probabilities
from automoe_jax.inference.decode import search_from
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import Memory, encode

WARM_UPS = 5
KEPT = 0.8  # share of the runs, the middle ones


class Latency(NamedTuple):
    """Milliseconds of one sentence."""

    encoder: float
    decoder: float

    @property
    def total(self) -> float:
        return self.encoder + self.decoder


def measure(
    networks: Sequence[Network],
    *,
    source_length: int = LENGTH,
    target_length: int = LENGTH,
    beam_size: int = 5,
    runs: int = 100,
) -> list[Latency]:
    """For each sub-Transformer the mean of the middle 80 % of `runs` translations of one sentence,
    in milliseconds.

    The networks are interleaved, so that a temporarily slow host affects all of them. The decoder
    makes all `target_length` incremental steps, even after EOS; a classifier has no decoder.
    Without dropout, compiled, after 5 warm-ups.
    """
    check_whole(
        source_length=source_length, target_length=target_length, beam_size=beam_size, runs=runs
    )
    # weights just loaded are NumPy arrays, which each call would copy
    networks = jax.device_put(list(networks))
    tasks = [
        task
        for network in networks
        for task in _tasks(network, source_length, target_length, beam_size)
    ]
    seconds = np.zeros((WARM_UPS + runs, len(tasks)))
    for i in tqdm(
        range(len(seconds)),
        desc="latency",
        unit="round",
        file=sys.stderr,
        dynamic_ncols=True,
        disable=len(networks) == 1,
    ):
        for j, task in enumerate(tasks):
            started = time.perf_counter()
            jax.block_until_ready(task())
            seconds[i, j] = time.perf_counter() - started
    means = iter(1000 * middle_mean(column) for column in seconds[WARM_UPS:].T)
    return [
        Latency(next(means), 0.0 if network.spec.classes else next(means)) for network in networks
    ]


def middle_mean(values: Float[np.ndarray, "repeats"], share: float = KEPT) -> float:
    """The mean of the middle `share` of the values."""
    cut = round(len(values) * (1 - share) / 2)
    return float(np.sort(values)[cut : len(values) - cut].mean())


@jax.jit
def _encode(network: Network, source: Int[Array, "B S"]) -> Memory:
    return encode(network, network.spec.widths, network.spec.exact_arch, source).memory


@functools.partial(jax.jit, static_argnames=("beam_size", "length"))
def _search(
    network: Network, memory: Memory, *, beam_size: int, length: int
) -> tuple[Int32[Array, "B k T"], Float32[Array, "B k"]]:
    return search_from(
        network,
        memory,
        beam_size=beam_size,
        max_length=length,
        length_penalty=0.6,
        stop_early=False,
    )


def _tasks(
    network: Network, source_length: int, target_length: int, beam_size: int
) -> list[Callable[[], Any]]:
    """Timed calls of a network: its encoder and, if any, its decoder."""
    rng = np.random.default_rng(0)
    source = jnp.asarray(rng.integers(4, network.spec.vocab_size, (1, source_length)), jnp.int32)
    if network.spec.classes:
        return [lambda: batch_probabilities(network, source)]
    memory = _encode(network, source)
    return [
        lambda: _encode(network, source),
        lambda: _search(network, memory, beam_size=beam_size, length=target_length),
    ]
