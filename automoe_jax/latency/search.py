"""The device in a search: the conditions of its costs, and finalists measured again."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from automoe_jax.config import Config, SearchConfig
from automoe_jax.errors import UserError
from automoe_jax.export.settings import Settings
from automoe_jax.latency.device import conditions_of, costs_on_device, settings_of
from automoe_jax.latency.timing import Model, build, milliseconds, repeated
from automoe_jax.model.network import Spec
from automoe_jax.runtime.files import is_local
from automoe_jax.runtime.processes import is_first, wait_for_all
from automoe_jax.search.candidate import Candidate
from automoe_jax.search.limits import (
    Conditions,
    CostFunction,
    limits,
    needs_device,
    within_limits,
)
from automoe_jax.space import SearchSpace
from automoe_jax.workdir import Workdir

FILE = "device.jsonl"  # in the workdir: the architectures timed on this device
ROUNDS = 25  # of a first measurement
ROUNDS_OF_REPEATS = 9
GROUP = 4  # finalists that are timed interleaved
MOST = 48  # finalists
# Share of a limit of latency that finalists keep free. The ratio of two networks differs by a few
# per cent from minute to minute on a virtual machine, and a translation takes 3 to 4 % longer with
# trained weights, most of it by the embeddings.
MARGIN = 0.08


class Timed(NamedTuple):
    """The latency of a model, in milliseconds."""

    ms: float  # median of the measurements
    admitted: bool  # within the limits of latency


class Finalist(NamedTuple):
    """A candidate whose latency was measured, in milliseconds."""

    candidate: Candidate
    predicted: float
    measured: float
    admitted: bool  # within the limits of latency when measured, with `MARGIN` to spare

    def to_json(self) -> dict[str, Any]:
        return {
            "arch": self.candidate.arch.to_dict(),
            "loss": self.candidate.loss,
            "predicted_ms": round(self.predicted, 4),
            "measured_ms": round(self.measured, 4),
            "admitted": self.admitted,
        }


def search_conditions(config: Config, workdir: Workdir, spec: Spec) -> Conditions:
    """The conditions of the costs of a search. Where a limit needs the device, its timed
    architectures are read, or timed first.

    Raises `UserError` for a workdir in a bucket, where nothing can be timed.
    """
    conditions = Conditions(config.search, config.router, spec.output_size, spec.norm == "pre")
    if not needs_device(config.search):
        return conditions
    if not config.search.device.file and not is_local(workdir.root):
        raise UserError(
            "config.search.max_latency_ms is measured in a local workdir; name a local --workdir,"
            " or a file of automoe_jax.latency collect in config.search.device.file"
        )
    if not is_first():
        wait_for_all("latency")
    costs = costs_on_device(config, _settings(config, spec), Path(workdir.root / FILE))
    if is_first():
        wait_for_all("latency")
    return Conditions(
        config.search, config.router, spec.output_size, spec.norm == "pre", on_device=costs
    )


def is_timed_here(config: Config) -> bool:
    """Whether the search limits the latency on this device."""
    limited = {"latency_ms", "latency_share"} & set(limits(config.search))
    return bool(limited) and not config.search.device.file


def searched_within(config: Config, space: SearchSpace, cost: CostFunction) -> SearchConfig:
    """The settings of a search in `space` that draws what can become a finalist: limits of latency
    on this device keep `MARGIN` free, unless the smallest architecture does not.
    """
    search = config.search
    if not is_timed_here(config):
        return search
    ms, share = search.max_latency_ms, search.max_latency_share
    tighter = dataclasses.replace(
        search, max_latency_ms=(1 - MARGIN) * ms, max_latency_share=(1 - MARGIN) * share
    )
    return tighter if within_limits(cost(space.smallest()), tighter) else search


def admitted_finalists(
    config: Config, spec: Spec, candidates: Iterable[Candidate], wanted: int
) -> list[Candidate]:
    """At most `wanted` of the best candidates that are within the limits of latency when measured,
    best first; none if none of the best `MOST` is.
    """
    measured = _measured(config, spec, candidates, wanted)
    admitted = [one.candidate for one in measured if one.admitted]
    return sorted(admitted, key=lambda one: one.rank)[:wanted]


def finalists(config: Config, spec: Spec, candidates: Iterable[Candidate]) -> list[Finalist]:
    """The best candidates, measured in the deployed engine until one is within the limits of
    latency; the first in the list is the best of those.

    Raises `UserError` if none of the best `MOST` candidates is within the limits.
    """
    measured = _measured(config, spec, candidates, wanted=1)
    if admitted := [one for one in measured if one.admitted]:
        best = min(admitted, key=lambda one: one.candidate.rank)
        return [best, *(one for one in measured if one is not best)]
    closest = min(one.measured for one in measured)
    raise UserError(
        f"none of the {len(measured)} best candidates keeps {MARGIN:.0%} of the limit of latency"
        f" free when measured; the fastest takes {closest:.4g} ms, so raise"
        " search.max_latency_ms or search.max_latency_share, or search again when nothing else"
        " runs on this device"
    )


def _measured(
    config: Config, spec: Spec, candidates: Iterable[Candidate], wanted: int
) -> list[Finalist]:
    """The best candidates, best first, in groups until `wanted` are admitted.

    An admitted one is measured again: the time that admitted it is likely to be one of its short
    ones. It keeps `MARGIN` of the limit free in every repeat, since the trained network is measured
    later: the more the measurements of this device differ, the more the limit exceeds its median.
    """
    ranked = sorted((one for one in candidates if one.complete), key=lambda one: one.rank)[:MOST]
    settings, conditions = _settings(config, spec), conditions_of(config)
    dense = largest_dense(config, spec)
    measured: list[Finalist] = []
    with tqdm(
        total=len(ranked),
        desc="finalists",
        unit="architecture",
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        for start in range(0, len(ranked), GROUP):
            group = ranked[start : start + GROUP]
            models = [build(one.arch, settings, conditions) for one in group]
            first = timed(config, dense, models, decides=False, margin=MARGIN)
            admitted = [model for model, one in zip(models, first, strict=True) if one.admitted]
            again = iter(timed(config, dense, admitted, margin=MARGIN))
            times = [next(again) if one.admitted else one for one in first]
            measured += [
                Finalist(one, one.costs["latency_ms"], *found)
                for one, found in zip(group, times, strict=True)
            ]
            bar.update(len(group))
            if sum(one.admitted for one in measured) >= wanted:
                break
    return measured


def largest_dense(config: Config, spec: Spec) -> Model:
    """The model that a share of latency is relative to, untrained."""
    return build(config.space.largest_dense(), _settings(config, spec), conditions_of(config))


def timed(
    config: Config,
    dense: Model,
    models: Sequence[Model],
    decides: bool = True,
    margin: float = 0.0,
) -> list[Timed]:
    """The models, timed in turn with the largest dense one: once, or `repeated` where this decides.
    Each is within the limits of latency if it keeps `margin` of them free in every measurement, or
    without a margin if the median of its measurements is within them.
    """
    if not models:
        return []
    limit = limits(config.search).get("latency_ms", math.inf)
    share = limits(config.search).get("latency_share", math.inf)
    together = [dense, *models]
    if decides:
        times = repeated(together, ROUNDS_OF_REPEATS, "latency")
    else:
        times = np.array([milliseconds(together, ROUNDS)])
    most = (1 - margin) * np.minimum(limit, share * times[:, 0])
    used = times[:, 1:] / most[:, None]
    decisive = used.max(axis=0) if margin else np.median(used, axis=0)
    medians = np.median(times[:, 1:], axis=0).tolist()
    return [Timed(ms, bool(one <= 1)) for ms, one in zip(medians, decisive, strict=True)]


def _settings(config: Config, spec: Spec) -> Settings:
    return settings_of(config, spec.vocab_size, spec.target_vocab_size, spec.classes)
