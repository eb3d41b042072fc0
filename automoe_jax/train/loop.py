"""Training loop: from a network and batches to trained, averaged weights, resumable after any
interruption.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from etils import epath
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.config import TrainConfig
from automoe_jax.data.batching import Batch
from automoe_jax.data.shards import micro_batches, put_on_devices
from automoe_jax.errors import UserError
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import ForwardOptions
from automoe_jax.names import VALIDATION
from automoe_jax.runtime.interruption import stop_requests, stopped
from automoe_jax.runtime.processes import is_first
from automoe_jax.runtime.sharding import ONE_DEVICE, Placement
from automoe_jax.train.checkpoint import Checkpoints
from automoe_jax.train.metrics import MetricsWriter, NoMetrics, read_metrics, summarise
from automoe_jax.train.optim import schedule
from automoe_jax.train.step import (
    StepMetrics,
    TrainState,
    init_state,
    make_eval_step,
    make_train_step,
    state_shardings,
)

# four words of key for the hashes of `ops.dropout`; its own generator is not used
DROPOUT_RNG = "rbg"


# updates between the questions whether any process is asked to stop, for which the devices wait
AGREE_EVERY = 5


class Run(NamedTuple):
    """One training run."""

    title: str  # for the progress bar
    folder: epath.Path
    train: TrainConfig
    forward_options: ForwardOptions
    seed: int
    archs: Callable[[int], list[Arch]]  # maps an update's number to its sub-networks
    # architectures whose validation loss is logged; that of the first selects the best checkpoint
    probes: dict[str, Arch]
    placement: Placement = ONE_DEVICE


class Trained(NamedTuple):
    """The result of a run."""

    # the average of the last checkpoints, the last or the best one, by validation loss
    network: Network
    tokens: int  # non-pad target tokens seen
    seconds: float  # of training, without interruptions
    validation_nll: float  # of that network, nats per token


def train(
    run: Run, network: Network, data: grain.DatasetIterator, validation: list[Batch]
) -> Trained:
    """Trains `network`, resuming from the run's folder.

    Raises `UserError` when the loss is not finite, `Interrupted` after Ctrl-C or SIGTERM; both
    leave a checkpoint to resume from.
    """
    state = put_on_devices(
        init_state(network, run.train), state_shardings(network.spec, run.train, run.placement)
    )
    with (
        Checkpoints(run.folder / "checkpoints", run.train) as checkpoints,
        stop_requests("update") as requested,
    ):
        state = checkpoints.restore(state, data) or state
        evaluate = validator(network, run.forward_options, validation, run.placement)
        probe = next(iter(run.probes.values()))
        writer = MetricsWriter(run.folder, int(state.step)) if is_first() else NoMetrics()
        with writer:
            state = _updates(run, network, state, data, evaluate, checkpoints, writer, requested)
        # While the loss falls fast, older checkpoints make the average worse: validation loss
        # decides.
        choices = (
            checkpoints.averaged_params(state, run.train.average_checkpoints),
            state.params,
            checkpoints.best_params(state),
        )
        nll, params = min(
            ((evaluate(params, probe), params) for params in choices), key=lambda scored: scored[0]
        )
    records = read_metrics(run.folder)
    tokens, seconds = (
        sum(record.get(name, 0) for record in records) for name in ("tokens", "seconds")
    )
    return Trained(Network(params, network.spec), tokens, round(seconds, 1), nll)


def validator(
    network: Network,
    forward_options: ForwardOptions,
    batches: list[Batch],
    placement: Placement = ONE_DEVICE,
) -> Callable[[dict[str, Any], Arch], float]:
    """nll(params, arch): the mean −log p per non-pad target token over `batches`, which stay on the
    devices.
    """
    step = make_eval_step(network.spec, ForwardOptions(dtype=forward_options.dtype), placement)
    resident = [put_on_devices(batch, placement.batch) for batch in batches]

    def nll(params: dict[str, Any], arch: Arch) -> float:
        sums = jax.device_get([step(params, batch, arch) for batch in resident])
        total, tokens = (
            sum(float(getattr(part, name)) for part in sums) for name in ("nll", "tokens")
        )
        return total / max(tokens, 1.0)

    return nll


def _updates(
    run: Run,
    network: Network,
    state: TrainState,
    data: grain.DatasetIterator,
    evaluate: Callable[[dict[str, Any], Arch], float],
    checkpoints: Checkpoints,
    writer: MetricsWriter | NoMetrics,
    requested: Callable[[], int],
) -> TrainState:
    """The remaining updates, with the validation, checkpoints and records that are due between
    them.
    """
    train, start = run.train, int(state.step)
    if start >= train.steps:
        return state
    step_fn = make_train_step(network.spec, train, run.forward_options, run.placement)
    key = jax.random.key(run.seed, impl=DROPOUT_RNG)
    pending: list[StepMetrics] = []
    compiled: set[int] = set()
    alone = jax.process_count() == 1
    unit = "texts" if network.spec.classes else "tokens"
    clock = time.perf_counter()
    with _bar(run, start) as bar:
        for step in range(start + 1, train.steps + 1):
            archs = jax.tree.map(lambda *fields: np.stack(fields), *run.archs(step))
            batch = micro_batches(run.placement, train.accumulate, next(data))
            length = batch["source"].shape[-1]
            if length not in compiled:
                compiled.add(length)
                bar.set_postfix_str(f"compiling for {length} tokens a sentence")
            state, metrics = step_fn(state, batch, archs, key)
            pending.append(metrics)
            last = step == train.steps
            asked = alone or last or step % AGREE_EVERY == 0
            stopping = requested() if asked else 0
            save = stopping or last or step % train.checkpoint_every == 0
            if save or step % train.log_every == 0:
                record = _collect(run, step, pending)
                seconds = time.perf_counter() - clock
                rate = {"learning_rate": float(schedule(train)(step - 1))}
                writer.write(step, record | rate | _speed(record["tokens"], seconds))
                _show(bar, record, seconds, unit)
                bar.update(len(pending))
                pending, clock = [], time.perf_counter()
            if save or step % train.evaluate_every == 0:
                losses = {name: evaluate(state.params, arch) for name, arch in run.probes.items()}
                writer.write(step, _validation(losses))
                if save:
                    checkpoints.save(state, data, next(iter(losses.values())))
                clock = time.perf_counter()
            if stopping:
                checkpoints.wait()
                raise stopped(stopping, f"update {step}, which is saved")
    return state


def _show(bar: tqdm, record: Mapping[str, Any], seconds: float, unit: str) -> None:
    """Sets the loss and the speed of the latest updates as the words after a progress bar."""
    speed = record["tokens"] / seconds
    bar.set_postfix_str(f"loss {record['loss']:.3f}, {speed:,.0f} {unit}/s", refresh=False)


def _validation(losses: Mapping[str, float]) -> dict[str, float]:
    """Validation losses by the names of a record: the first probe's has no suffix."""
    first, *others = losses.items()
    return {VALIDATION: first[1]} | {f"{VALIDATION}_{name}": loss for name, loss in others}


def _collect(run: Run, step: int, pending: list[StepMetrics]) -> dict[str, Any]:
    """Means of the pending updates; raises `UserError` naming the first that was not finite."""
    fetched = jax.device_get(pending)
    for ago, metrics in enumerate(reversed(fetched)):
        if not metrics.finite:
            bad = step - ago
            archs = "; ".join(arch.to_json() for arch in run.archs(bad))
            raise UserError(
                f"{run.title}: the loss or its gradient was not finite at update {bad} of"
                f" architecture {archs}; lower learning_rate, lengthen warmup_steps or set"
                " clip_norm, and start again with --redo or in a new workdir"
            )
    return summarise(fetched)


def _speed(tokens: int, seconds: float) -> dict[str, float]:
    return {"seconds": round(seconds, 3), "tokens_per_second": round(tokens / seconds, 1)}


def _bar(run: Run, start: int) -> tqdm:
    return tqdm(
        total=run.train.steps,
        initial=start,
        desc=run.title,
        unit="update",
        dynamic_ncols=True,
        file=sys.stderr,
        smoothing=0.1,
    )
