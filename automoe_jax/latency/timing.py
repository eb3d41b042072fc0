"""Latency of untrained architectures in the deployed engine, interleaved.

Axes: B sentences · S source tokens.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime

from automoe_jax.arch import Arch
from automoe_jax.errors import UserError
from automoe_jax.export.models import classifier, translator
from automoe_jax.export.settings import Settings, Weights
from automoe_jax.export.untrained import untrained
from automoe_jax.inference.engine.session import run, session

WARM_UPS = 2
ROUNDS = 9
DECIDING = 3.0  # seconds of a measurement that decides something, at least
UNDISTURBED, TIME = 0.25, "lower quartile"  # of the times of a batch
COARSE = 0.01  # largest share of a measurement that one tick of the timer may be
NEVER = 1 << 30  # finished hypotheses at which a search stops: all steps are made


@dataclasses.dataclass(frozen=True)
class TimingConditions:
    """Conditions of a timing."""

    batch: int
    beam_size: int
    threads: int
    source_length: int  # tokens of every sentence, EOS included
    target_length: int  # decoding steps


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that is ready to be timed."""

    content: bytes  # of the ONNX file
    feeds: Mapping[str, np.ndarray]  # one batch
    threads: int
    loaded: onnxruntime.InferenceSession

    @property
    def file_bytes(self) -> int:
        return len(self.content)

    def translate(self) -> None:
        """Runs the batch."""
        run(self.loaded, self.feeds)


def build(
    arch: Arch, settings: Settings, conditions: TimingConditions, weights: Weights | None = None
) -> Model:
    """A model of `arch`, by default an untrained one, loaded by the engine."""
    weights = untrained(arch, settings) if weights is None else weights
    make = classifier if settings.classes else translator
    content = make(arch, settings, weights).SerializeToString()
    rng = np.random.default_rng(0)
    size = (conditions.batch, conditions.source_length)
    feeds = {"source": rng.integers(4, settings.vocab_size, size)}
    if not settings.classes:
        feeds |= {
            "beams": np.array(conditions.beam_size),
            "max_length": np.array(conditions.target_length),
            "stop": np.array(NEVER),
            "pieces": np.zeros(0, np.int64),
            "own": np.zeros((conditions.batch, 0), bool),
            "explain": np.array(False),
        }
    return Model(content, feeds, conditions.threads, session(content, conditions.threads))


def milliseconds(
    models: Sequence[Model], rounds: int = ROUNDS, seconds: float = 0.0
) -> list[float]:
    """For each model the time of a batch, the lower quartile over the rounds: `rounds` of them, and
    as many more as fit into `seconds`. Batches of a few milliseconds need that: a burst of other
    work lasts longer than 25 rounds of them.

    All run once per round, and the first of a round is the second model of the one before, so that
    neither a slow moment of the machine nor what ran just before falls on one of them. Where
    another program shares the core, half of the batches or more are interrupted, most of one model
    and few of another; those of the lower quartile are not.
    Raises `UserError` where the timer is too coarse for a batch.
    """
    undisturbed = [
        float(np.quantile(taken, UNDISTURBED)) for taken in seconds_of(models, rounds, seconds)
    ]
    tick = time.get_clock_info("perf_counter").resolution
    if tick > COARSE * min(undisturbed):
        raise UserError(
            f"the timer of this device counts in steps of {1000 * tick:g} ms, too coarse for a"
            f" batch of {1000 * min(undisturbed):g} ms; raise config.search.device.batch"
        )
    return [1000 * taken for taken in undisturbed]


def seconds_of(models: Sequence[Model], rounds: int, seconds: float = 0.0) -> list[list[float]]:
    """For each model the seconds of a batch in every round after the warm-ups; see
    `milliseconds`.
    """
    times: list[list[float]] = [[] for _ in models]
    began, number = time.perf_counter(), 0
    while number < WARM_UPS + rounds or time.perf_counter() - began < seconds:
        for i in in_turn(len(models), number):
            started = time.perf_counter()
            models[i].translate()
            if number >= WARM_UPS:
                times[i].append(time.perf_counter() - started)
        number += 1
    return times


def in_turn(count: int, number: int) -> list[int]:
    """The order of `count` cases in a round with this number: each comes first in turn."""
    return [(number + i) % count for i in range(count)]
