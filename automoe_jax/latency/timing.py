"""Latency of untrained architectures in the deployed engine, interleaved.

Axes: B sentences · S source tokens.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import onnxruntime
from jaxtyping import Float64
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.errors import UserError
from automoe_jax.export.models import classifier, translator
from automoe_jax.export.settings import Settings, Weights
from automoe_jax.export.untrained import untrained
from automoe_jax.inference.engine.session import run, session

WARM_UPS = 2
ROUNDS = 9
DECIDING = 2.0  # seconds of each repeat of a measurement that decides something, at least
REPEATS = 3  # of such a measurement
UNDISTURBED, TIME = 0.25, "lower quartile"  # of the times of a batch
COARSE = 0.01  # largest share of a measurement that one tick of the timer may be
NEVER = 1 << 30  # finished hypotheses at which a search stops: all steps are made

# Functions of `time`: processor time of the calling thread, and time that passes.
Clock = Literal["thread_time", "perf_counter"]


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

    With one thread it is that thread's processor time: equal to the time that passes where the
    core is free, and without the turns of other programs where it is not. With more threads it is
    the time that passes, and every other program's turn counts.

    All run once per round, and the first of a round is the second model of the one before, so that
    neither a slow moment of the machine nor what ran just before falls on one of them. Where
    other programs run, half of the batches or more are disturbed, most of one model and few of
    another; those of the lower quartile are not.
    Raises `UserError` where the timer is too coarse for a batch.
    """
    clock = _clock(models)
    undisturbed = [
        float(np.quantile(taken, UNDISTURBED))
        for taken in seconds_of(models, rounds, clock, seconds)
    ]
    tick = time.get_clock_info(clock).resolution
    if tick > COARSE * min(undisturbed):
        raise UserError(
            f"the timer of this device counts in steps of {1000 * tick:g} ms, too coarse for a"
            f" batch of {1000 * min(undisturbed):g} ms; raise config.search.device.batch"
        )
    return [1000 * taken for taken in undisturbed]


def repeated(models: Sequence[Model], rounds: int, title: str) -> Float64[np.ndarray, "R M"]:
    """The `milliseconds` of each of M models in each of R = REPEATS measurements of `rounds` and
    at least DECIDING seconds, for what decides something; a progress bar has the title.

    The engine loads all models anew for each measurement: where a model's memory lies changes its
    time by a few per cent, for as long as it is loaded, and more rounds do not show that.
    """
    with tqdm(
        range(REPEATS),
        title,
        leave=False,
        unit="measurement",
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        times = [milliseconds([_reloaded(one) for one in models], rounds, DECIDING) for _ in bar]
    return np.array(times)


def _reloaded(model: Model) -> Model:
    return dataclasses.replace(model, loaded=session(model.content, model.threads))


def seconds_of(
    models: Sequence[Model], rounds: int, clock: Clock, seconds: float = 0.0
) -> list[list[float]]:
    """For each model the seconds of a batch by `clock` in every round after the warm-ups; see
    `milliseconds`.
    """
    times: list[list[float]] = [[] for _ in models]
    now: Callable[[], float] = getattr(time, clock)
    began, number = time.perf_counter(), 0
    while number < WARM_UPS + rounds or time.perf_counter() - began < seconds:
        for i in in_turn(len(models), number):
            started = now()
            models[i].translate()
            if number >= WARM_UPS:
                times[i].append(now() - started)
        number += 1
    return times


def _clock(models: Sequence[Model]) -> Clock:
    """The processor time of the calling thread, where that does all the work. On Windows it
    advances by 16 ms at a time.
    """
    alone = all(model.threads == 1 for model in models) and sys.platform != "win32"
    return "thread_time" if alone else "perf_counter"


def in_turn(count: int, number: int) -> list[int]:
    """The order of `count` cases in a round with this number: each comes first in turn."""
    return [(number + i) % count for i in range(count)]
