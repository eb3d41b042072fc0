"""A file of timed architectures, which grows until predictions are good enough.

The first line is a header with the device and the conditions, every other line an architecture with
its milliseconds. An interrupted collection continues after its last line.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from automoe_jax.arch import Arch
from automoe_jax.errors import UserError
from automoe_jax.export.settings import Settings
from automoe_jax.latency.memory import resident_mb
from automoe_jax.latency.predictor import HeldOut, fit, held_out
from automoe_jax.latency.timing import TIME, TimingConditions, build, milliseconds
from automoe_jax.runtime.files import atomic_writer
from automoe_jax.space import SearchSpace

LEAST = 12  # architectures, before the error is estimated
GROUP = 4  # architectures that are timed interleaved, next to the reference
PROPOSED = 40  # even draws from which the next ones are chosen


@dataclasses.dataclass(frozen=True)
class Measured:
    """One timed architecture."""

    arch: Arch
    ms: float
    # of the reference architecture, timed in the same group: cancels changes of the device's speed
    reference_ms: float
    file_bytes: int
    memory_mb: float = 0.0  # largest resident memory of a process that runs it; 0: not measured

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"arch": self.arch.to_dict()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Measured":
        """The inverse of `to_json`; raises `ValueError`, `KeyError` or `TypeError` for anything
        else, impossible times included.
        """
        values = {name: float(record[name]) for name in ("ms", "reference_ms", "file_bytes")}
        if not all(0 < value < math.inf for value in values.values()):
            raise ValueError("times and sizes must be positive")
        arch = Arch.from_dict(record["arch"])
        memory = float(record.get("memory_mb", 0))
        if not 0 <= memory < math.inf:
            raise ValueError("memory must not be negative")
        return cls(arch, values["ms"], values["reference_ms"], int(values["file_bytes"]), memory)


@dataclasses.dataclass(frozen=True)
class Collection:
    """The contents of a file."""

    header: Mapping[str, Any]
    measured: tuple[Measured, ...]

    def archs(self) -> list[Arch]:
        return [one.arch for one in self.measured]

    def values(self) -> list[float]:
        """Milliseconds at the device's usual speed: that of the median group."""
        usual = float(np.median([one.reference_ms for one in self.measured]))
        return [one.ms * usual / one.reference_ms for one in self.measured]

    def error(self) -> HeldOut:
        """Held-out errors of predictions from this collection."""
        return held_out(self.archs(), self.values())


def header_of(
    settings: Settings, conditions: TimingConditions, space: SearchSpace
) -> dict[str, Any]:
    """Conditions that every use of a collection must share: engine, model and settings."""
    return {
        "engine": f"onnxruntime {onnxruntime.__version__}",
        "precision": settings.precision,
        "vocabulary": settings.vocab_size,
        "target vocabulary": settings.output_size,
        "router": settings.router.kind,
        "norm": settings.norm,
        "time": TIME,
        **dataclasses.asdict(conditions),
        "space": repr(space),
    }


def collect(
    path: Path,
    space: SearchSpace,
    settings: Settings,
    conditions: TimingConditions,
    *,
    most: int,
    error: float,
    progress: Callable[[int, HeldOut | None], None] = lambda done, error: None,
) -> Collection:
    """Times architectures of `space` until the mean held-out error is at most `error` or `most` are
    timed; every group is in the file as soon as it is timed.

    Raises `UserError` for a file of other conditions, or a damaged one.
    """
    header = header_of(settings, conditions, space)
    collection = Collection(header, ())
    if path.exists():
        collection = load(path)
        check_header(collection.header, header, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, collection)  # without an unfinished last line
    reference = build(space.largest_dense(), settings, conditions)
    while len(collection.measured) < most:
        reached = collection.error() if len(collection.measured) >= LEAST else None
        progress(len(collection.measured), reached)
        if reached and reached.mean <= error:
            break
        archs = _next(space, collection, min(GROUP, most - len(collection.measured)))
        if not archs:
            break  # the whole space is timed
        models = [build(arch, settings, conditions) for arch in archs]
        reference_ms, *times = milliseconds([reference, *models])
        extremes = [space.smallest(), space.largest()]
        group = [
            Measured(
                arch,
                ms,
                reference_ms,
                model.file_bytes,
                resident_mb(model) if arch in extremes else 0.0,
            )
            for arch, ms, model in zip(archs, times, models, strict=True)
        ]
        collection = Collection(header, (*collection.measured, *group))
        _write(path, collection)
    progress(len(collection.measured), collection.error())
    return collection


def load(path: Path) -> Collection:
    """The contents of a file; raises `UserError` that names a missing file or a damaged line. A
    last line that was not finished is left out.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(
            f"the timed architectures {path} cannot be read: {error.strerror}"
        ) from None
    lines = text.splitlines()
    return Collection(_header(lines, path), tuple(_rows(lines[1:], path, text.endswith("\n"))))


def _write(path: Path, collection: Collection) -> None:
    lines = [collection.header, *(one.to_json() for one in collection.measured)]
    with atomic_writer(path) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def check_header(header: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> None:
    """Raises `UserError` for a collection made under other conditions, with their name."""
    for name, value in wanted.items():
        if header.get(name) != value:
            raise UserError(
                f"{path} was made with {name}={header.get(name)!r}, and this search needs"
                f" {value!r}; collect again, or change the setting"
            )


def _header(lines: Sequence[str], path: Path) -> dict[str, Any]:
    try:
        header = json.loads(lines[0])
        if not isinstance(header, dict):
            raise ValueError("not an object")
        return header
    except (IndexError, ValueError):
        raise UserError(
            f"{path}, line 1, is not the header of timed architectures; remove the file and"
            " collect again"
        ) from None


def check_rows(found: Collection, space: SearchSpace, path: str) -> None:
    """Raises `UserError` for too few architectures to predict from, or one outside the space."""
    least = min(LEAST, space.size())
    if len(found.measured) < least:
        raise UserError(
            f"{path} has {len(found.measured)} timed architectures and {least} are needed; run"
            " automoe_jax.latency collect again, which continues"
        )
    for number, one in enumerate(found.measured, start=2):
        if not space.contains(one.arch):
            raise UserError(
                f"{path}, line {number}, holds an architecture outside config.space; remove that"
                " line"
            )


def _rows(lines: Sequence[str], path: Path, finished: bool) -> Iterator[Measured]:
    """The rows; where the file is not finished, without a last line that is none."""
    for number, line in enumerate(lines, start=2):
        try:
            yield Measured.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) + 1 and not finished:
                return  # interrupted while writing
            why = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise UserError(
                f"{path}, line {number}, is no timed architecture ({why}); remove that line"
            ) from None


def _next(space: SearchSpace, collection: Collection, count: int) -> list[Arch]:
    """The architectures to time next: the extremes of the space first, then the draws that differ
    most in their prediction between halves of what is timed.
    """
    known, rng = set(collection.archs()), np.random.default_rng([7, len(collection.measured)])
    extremes = [space.smallest(), space.largest(), space.largest_dense()]
    fresh = [arch for arch in dict.fromkeys(extremes) if arch not in known]
    draws = list(dict.fromkeys(space.sample(rng) for _ in range(PROPOSED)))
    draws = [arch for arch in draws if arch not in known and arch not in fresh]
    if len(collection.measured) >= LEAST:
        archs, values = collection.archs(), collection.values()
        halves = [fit(archs[start::2], values[start::2]) for start in (0, 1)]
        # every second one by disagreement, the others even
        doubtful = sorted(draws, key=lambda arch: -_ratio(*(half(arch) for half in halves)))
        draws = [one for pair in zip(doubtful, draws, strict=True) for one in pair]
    return list(dict.fromkeys([*fresh, *draws]))[:count]


def _ratio(a: float, b: float) -> float:
    return max(a, b) / max(min(a, b), 1e-9)
