"""Metrics of a run as JSON lines and for TensorBoard; a resumed run writes no line twice."""

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import tensorboardX
from etils import epath

from automoe_jax.ops.routers import RouterMetrics
from automoe_jax.runtime.files import append_line, atomic_writer, read_lines
from automoe_jax.train.step import StepMetrics

_log = logging.getLogger(__name__)


class MetricsWriter:
    """Appends records to `folder/metrics.jsonl` and the same as TensorBoard events to `folder`."""

    def __init__(self, folder: epath.PathLike, resumed_at: int) -> None:
        """Opens the files and drops the records of updates after `resumed_at`."""
        self._path = _path(folder)
        kept = [record for record in read_metrics(folder) if record["step"] <= resumed_at]
        with atomic_writer(self._path) as file:
            file.writelines(json.dumps(record).encode() + b"\n" for record in kept)
        self._board = tensorboardX.SummaryWriter(
            str(folder), purge_step=resumed_at + 1, flush_secs=10
        )

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._board.close()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One record; a list becomes one TensorBoard curve per layer, None is left out there."""
        append_line(self._path, json.dumps({"step": step, **values}).encode())
        for name, value in values.items():
            layers = value if isinstance(value, list) else [value]
            for i, number in enumerate(layers):
                if isinstance(number, int | float):
                    self._board.add_scalar(
                        f"{name}/{i}" if isinstance(value, list) else name, number, step
                    )


class NoMetrics(contextlib.nullcontext):
    """Replaces a `MetricsWriter` if another process writes."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Does nothing."""


def read_metrics(folder: epath.PathLike) -> list[dict[str, Any]]:
    """The records of a run, oldest first; none where there are none.

    A half-written last line is ignored. A line that holds no record is left out with a warning:
    training does not depend on it.
    """
    records = []
    for number, line in enumerate(read_lines(_path(folder)), start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record["step"], int):
                raise ValueError("not an object with a step")
            records.append(record)
        except (ValueError, KeyError) as error:
            _log.warning(
                "%s, line %d holds no record (%s); it is left out", _path(folder), number, error
            )
    return records


def _path(folder: epath.PathLike) -> epath.Path:
    return epath.Path(folder) / "metrics.jsonl"


def summarise(steps: list[StepMetrics]) -> dict[str, Any]:
    """Means over updates, on the host; router metrics per layer (encoder first), None for a layer
    that never routed.
    """
    tokens = np.array([step.tokens for step in steps], np.float64)
    routers = [_joined(step.encoder, step.decoder) for step in steps]
    routed = np.sum([router.routed for router in routers], axis=0)
    totals = {
        name: np.sum([getattr(router, name) for router in routers], axis=0)
        for name in RouterMetrics._fields
    }

    def mean(name: str) -> list[Any]:
        return [
            np.round(total / count, 4).tolist() if count else None
            for total, count in zip(totals[name], routed, strict=True)
        ]

    def average(name):
        return float(np.average([getattr(step, name) for step in steps], weights=tokens))

    summary: dict[str, Any] = {
        "loss": average("loss"),
        "nll": average("nll"),
        "tokens": int(tokens.sum()),
        "balance_loss": mean("balance_loss"),
        "routing_entropy": mean("entropy"),
        "dead_experts": mean("dead"),
    }
    if any(step.disagreement for step in steps):
        summary["disagreement"] = average("disagreement")
    if totals["dropped"].any():
        summary["dropped_choices"] = mean("dropped")
    varied = (totals["choices"] > 0).sum(axis=1) > 1
    if varied.any():
        most = 1 + np.flatnonzero(totals["choices"].any(axis=0)).max()
        summary["experts_shares"] = [
            shares[:most] if shares else None for shares in mean("choices")
        ]
        summary["experts_per_token"] = [
            (
                round(sum(number * share for number, share in enumerate(shares, start=1)), 4)
                if shares
                else None
            )
            for shares in summary["experts_shares"]
        ]
    return summary


def _joined(encoder: RouterMetrics, decoder: RouterMetrics) -> RouterMetrics:
    """Both sides' layers in one array each, encoder first; on the host."""
    return jax.tree.map(lambda *sides: np.concatenate(sides), encoder, decoder)
