"""Metrics of a run as JSON lines and for TensorBoard; a resumed run leaves no line twice."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import tensorboardX
from etils import epath

from automoe_jax.ops.routing import RouterMetrics
from automoe_jax.train.step import StepMetrics


class MetricsWriter:
    """Appends records to `folder/metrics.jsonl` and TensorBoard events beside it."""

    def __init__(self, folder: epath.PathLike, resumed_at: int) -> None:
        """Opens the files, dropping the lines that were written after step `resumed_at`."""
        self._path = epath.Path(folder) / "metrics.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read_metrics(folder) if record["step"] <= resumed_at]
        draft = self._path.parent / ".metrics.jsonl.part"
        draft.write_text("".join(json.dumps(record) + "\n" for record in kept))
        draft.replace(self._path)
        self._file = self._path.open("a")
        self._board = tensorboardX.SummaryWriter(
            str(folder), purge_step=resumed_at + 1, flush_secs=10
        )

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One record; a list becomes one TensorBoard curve per layer, None is left out there."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            layers = value if isinstance(value, list) else [value]
            for i, number in enumerate(layers):
                if isinstance(number, int | float):
                    self._board.add_scalar(
                        f"{name}/{i}" if isinstance(value, list) else name, number, step
                    )


class NoMetrics(contextlib.nullcontext):
    """In the place of a `MetricsWriter` where another process writes."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Nothing."""


def read_metrics(folder: epath.PathLike) -> list[dict[str, Any]]:
    """The records of a run, oldest first; a half-written last line is left out."""
    path = epath.Path(folder) / "metrics.jsonl"
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


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
