"""Reads fairseq's checkpoints with PyTorch, without running code from them.

`torch.load(weights_only=True)` builds tensors and plain containers only. Two kinds of objects are
allowed in addition: `argparse.Namespace`, fairseq's settings, and the meters of its training loop,
which become empty objects.
"""

import argparse
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from automoe_jax.errors import UserError

# Classes of `fairseq.meters`, whose objects are in a checkpoint's extra_state.
_METERS = ("AverageMeter", "StopwatchMeter", "TimeMeter")
_VALIDATION = "valid_nll_loss"  # bits per token, in the last validation


class Checkpoint(NamedTuple):
    """Contents of a checkpoint, as far as they are converted."""

    weights: dict[str, np.ndarray]  # float32, in the checkpoint's order
    arguments: argparse.Namespace  # fairseq's settings
    updates: int = 0
    validation_nll: float = math.nan  # nats per token in the last validation; NaN: not recorded


class _Meter:
    """Stands for any of `_METERS`; its attributes are those of the saved object."""


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a file of `torch.save`.

    Raises `UserError` where PyTorch is missing, and for a file that is not a checkpoint of fairseq
    or holds other objects.
    """
    torch = _torch()
    if not pathlib.Path(path).is_file():
        raise UserError(f"--checkpoint={path} is not a file; name a model.pt of HAT or AutoMoE")
    allowed = [(_Meter, f"fairseq.meters.{name}") for name in _METERS]
    try:
        with torch.serialization.safe_globals([argparse.Namespace, *allowed]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises many kinds, from pickle's to the zip reader's
        raise UserError(
            f"--checkpoint={path} cannot be read as a checkpoint of tensors and settings alone"
            f" ({_first_sentence(error)}); give a file that fairseq's training wrote, copied whole"
        ) from None
    return parse(state, f"--checkpoint={path}")


def parse(state: Any, where: str) -> Checkpoint:
    """The checkpoint of the object that was saved; raises `UserError` if it is another one."""
    found = state if isinstance(state, Mapping) else {}
    model, arguments = found.get("model"), found.get("args")
    if not isinstance(model, Mapping) or not isinstance(arguments, argparse.Namespace):
        keys = ", ".join(map(repr, list(found)[:5])) or type(state).__name__
        raise UserError(
            f"{where} is no checkpoint of fairseq: it must hold 'model', the weights, and 'args',"
            f" the settings, and holds {keys}"
        )
    weights = {str(name): np.asarray(_array(one), np.float32) for name, one in model.items()}
    history = found.get("optimizer_history") or [{}]
    return Checkpoint(
        weights,
        arguments,
        int(history[-1].get("num_updates", 0)),
        _validation(found.get("extra_state")),
    )


def _array(tensor: Any) -> np.ndarray:
    return tensor.float().numpy() if hasattr(tensor, "float") else tensor


def _validation(extra: Any) -> float:
    meters = extra.get("train_meters") if isinstance(extra, Mapping) else None
    meter = meters.get(_VALIDATION) if isinstance(meters, Mapping) else None
    bits = getattr(meter, "avg", 0.0)
    return float(bits) * math.log(2) if bits else math.nan


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            "a checkpoint of fairseq is read with PyTorch, which is not installed; install it with"
            " pip install 'automoe_jax[convert]'"
        ) from None
    return torch


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
