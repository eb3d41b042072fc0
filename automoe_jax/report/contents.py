"""What a report is made of: plain data, gathered by the stage and only read here.

A field may be empty and a number may be missing (absent, None, NaN or infinite): the report then
says so or leaves the piece out. A row of results or a training run is recognised by how its name
begins, see the constants.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from automoe_jax.arch import Arch
from automoe_jax.space import SearchSpace

SUPERNET = "SuperNet"
RETRAINED = "retrained sub-Transformer"
INHERITED = "inherited weights"
DENSE = "largest dense"


class Quality(NamedTuple):
    """How the outputs of a task are judged: the keys of a row of results and their names."""

    key: str
    unit: str  # as it stands behind a score
    second_key: str
    second: str
    system: str  # what is judged


TRANSLATION = Quality("bleu", "BLEU", "chrf", "chrF", "translator")
CLASSIFICATION = Quality("accuracy", "% accuracy", "macro_f1", "macro F1", "classifier")


@dataclasses.dataclass(frozen=True)
class ReportContents:
    """Everything the report shows; the records are those of the JSON files in the workdir."""

    title: str
    arch: Arch  # the found sub-Transformer
    space: SearchSpace
    # flattened: {"data.source": "toy"}
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: str = ""
    date: str = ""
    device: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seed: int = 0
    # nested counts of the prepare stage
    data_statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # of `arch`: flops, params, active_params …
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # Run title -> metric records {"step", "nll", "loss", "routing_entropy": [layers],
    # "dead_experts": [layers] …} and
    # validation records {"step", "validation_nll"}. Lists over layers hold the encoder's first,
    # then the decoder's.
    curves: Mapping[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    # {"arch", "loss", "flops", "params", "origin" …}
    candidates: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    pareto: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    # {"max_flops": …}; 0: none
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # {"name", "bleu", "chrf" or "accuracy", "flops" …}
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    # {"source", "reference", <row name>: translation}
    samples: list[dict[str, str]] = dataclasses.field(default_factory=list)
    stage_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)


def number(record: Mapping[str, Any], key: str) -> float | None:
    """`record[key]` as a finite float, or None."""
    return finite(record.get(key))


def finite(value: Any) -> float | None:
    """`value` as a float, or None if it is not a finite number."""
    if value is None or isinstance(value, bool | str | Mapping | list | tuple):
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def quality(results: Iterable[Mapping[str, Any]]) -> Quality:
    """How these results were judged."""
    return CLASSIFICATION if any("accuracy" in row for row in results) else TRANSLATION


def find(results: Iterable[Mapping[str, Any]], role: str) -> Mapping[str, Any] | None:
    """The first row whose name begins with `role`, whatever the case."""
    return next(
        (row for row in results if str(row.get("name", "")).lower().startswith(role.lower())), None
    )
