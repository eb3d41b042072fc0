"""Contents of a report: plain data, gathered by the stage and only read here.

A field may be empty and a number may be missing (absent, None, NaN or infinite): the report then
says so or omits the part.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from automoe_jax.arch import Arch
from automoe_jax.report.rows import Role, Row, Sample
from automoe_jax.search.candidate import Candidate
from automoe_jax.space import SearchSpace


class Quality(NamedTuple):
    """Measures of a task: fields of `Row` and their names."""

    key: str
    unit: str  # unit after a score
    second_key: str
    second: str
    system: str  # kind of outputs


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
    # what the rules of cleaning left out: {"rule", "setting", "count", "examples": [{"place",
    # "source", "target", "near"}]}
    removals: Sequence[Mapping[str, Any]] = ()
    # of `arch`: flops, params, active_params …
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # Of each training run, metric records {"step", "nll", "loss", "routing_entropy": [layers],
    # "dead_experts": [layers] …} and validation records {"step", "validation_nll"}. Lists over
    # layers hold the encoder's layers first, then the decoder's.
    curves: Mapping[Role, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    candidates: Sequence[Candidate] = ()  # of the search, in the order they were scored
    pareto: Sequence[Candidate] = ()  # of the loss and the cost `objective`, in its order
    objective: str = "flops"
    # {"reference": {"loss": …, "flops": …}, "by_generation": [share dominated, …]}
    hypervolume: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # {"max_flops": …}; 0: none
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)
    results: Sequence[Row] = ()
    samples: Sequence[Sample] = ()
    stage_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)


def number(record: Mapping[str, Any] | Row | None, key: str) -> float | None:
    """The entry or field `key` as a finite float, or None."""
    if isinstance(record, Row):
        return finite(getattr(record, key))
    return finite(record.get(key)) if record else None


def finite(value: Any) -> float | None:
    """`value` as a float, or None if it is not a finite number."""
    if value is None or isinstance(value, bool | str | Mapping | list | tuple):
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def scored(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates with a finite loss."""
    return [one for one in candidates if math.isfinite(one.loss)]


def quality(results: Sequence[Row]) -> Quality:
    """Measures of these results: of translations, or of classes."""
    classified = any(row.accuracy is not None for row in results)
    return CLASSIFICATION if classified else TRANSLATION
