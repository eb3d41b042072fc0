"""Results of an evaluation as data: rows with a role and a variant, and samples.

A row is recognised by its `RowKey`; its title is only printed. `to_json` and `from_json` convert
to the plain values of the JSON files. `from_json` also reads the files of version 0.1, in which the
title was the key.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Role(enum.StrEnum):
    """Network that was trained or evaluated, or a baseline without one."""

    SUPERNET = "supernet"  # trained only
    RETRAINED = "retrained"
    INHERITED = "inherited"  # evaluated only: the found architecture with the SuperNet's weights
    RIVAL = "rival"  # the best dense architecture within the limits of the search
    DENSE = "dense"
    BASELINE = "baseline"  # evaluated only; its variant names the baseline


_ROLE_TITLES = {
    Role.SUPERNET: "SuperNet",
    Role.RETRAINED: "retrained sub-Transformer",
    Role.INHERITED: "inherited weights",
    Role.RIVAL: "best dense within limits",
    Role.DENSE: "largest dense",
}
_BASELINE_TITLES = {  # where the title is not the variant itself
    "copy": "copy of the source",
    "most_frequent": "most frequent class",
}


class RowKey(NamedTuple):
    """Identifier of a row: its role, and the variant where a role has several rows.

    Variants of the retrained sub-Transformer are "" (as configured, with JAX), those of the
    inference engine ("onnx", "int8", "shortlist of N", "int8, shortlist of N") and the ways to
    choose experts at random in inference; those of `Role.BASELINE` are the names of the baselines.
    """

    role: Role
    variant: str = ""

    @property
    def title(self) -> str:
        """Words for tables, plots and progress bars."""
        if self.role is Role.BASELINE:
            return _BASELINE_TITLES.get(self.variant, self.variant.replace("_", " "))
        return _ROLE_TITLES[self.role] + (f" ({self.variant})" if self.variant else "")

    def __str__(self) -> str:
        """Short form for file names and JSON keys: "retrained", "retrained_int8"."""
        return f"{self.role}_{self.variant}" if self.variant else str(self.role)

    @classmethod
    def parse(cls, text: str) -> "RowKey":
        """Inverse of `str`; also accepts a title, as in files of version 0.1."""
        role, _, variant = text.partition("_")
        return cls(Role(role), variant) if role in set(Role) else _key_of_title(text)


RETRAINED = RowKey(Role.RETRAINED)
INHERITED = RowKey(Role.INHERITED)
RIVAL = RowKey(Role.RIVAL)
DENSE = RowKey(Role.DENSE)


@dataclasses.dataclass(frozen=True)
class Piece:
    """Mean number of experts of one vocabulary piece in the source text."""

    piece: str
    count: int  # occurrences
    experts: float
    group: str  # "frequent" or "rare"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the results table; a value that does not apply is None or empty.

    Lists over layers hold the encoder's layers first, then the decoder's.
    """

    role: Role
    variant: str = ""
    bleu: float | None = None
    chrf: float | None = None
    bleu_signature: str = ""
    chrf_signature: str = ""
    accuracy: float | None = None  # per cent
    macro_f1: float | None = None  # per cent
    flops: float | None = None  # of one sentence, as `automoe_jax.costs` counts
    flops_with_vocabulary: float | None = None
    params: float | None = None
    active_params: float | None = None
    # scores minus those of the retrained network; of the engine minus those with JAX; of int8 and a
    # shortlist minus those of float32 without one; 95 % intervals over resampled texts
    bleu_difference: float | None = None
    bleu_interval: tuple[float, ...] = ()
    chrf_difference: float | None = None
    chrf_interval: tuple[float, ...] = ()
    parameter_bytes: int | None = None
    experts_per_token: tuple[float, ...] = ()  # mean of each layer
    flops_measured: float | None = None  # with the experts that the test text's tokens got
    active_params_measured: float | None = None
    # of each layer, the share of the tokens that each expert got
    expert_loads: tuple[tuple[float, ...], ...] = ()
    # of each layer, the shares of tokens with 1, 2, … experts
    experts_shares: tuple[tuple[float, ...], ...] = ()
    experts_of_pieces: tuple[Piece, ...] = ()
    # mean experts of the "frequent" and of the "rare" pieces, weighted by their counts
    experts_of_groups: Mapping[str, float] = dataclasses.field(default_factory=dict)
    encoder_ms: float | None = None  # of one sentence
    decoder_ms: float | None = None
    latency_ms: float | None = None
    # with the deployed engine: milliseconds of a batch under the conditions of `search.device`, and
    # sentences per second in batches of 32
    deployed_ms: float | None = None
    deployed_sentences_per_second: float | None = None
    train_tokens: int | None = None
    train_seconds: float | None = None
    decode_sentences_per_second: float | None = None
    note: str = ""

    @property
    def key(self) -> RowKey:
        return RowKey(self.role, self.variant)

    @property
    def title(self) -> str:
        return self.key.title

    def to_json(self) -> dict[str, Any]:
        """Fields that hold something, and the title under "name" for readers of the file."""
        record: dict[str, Any] = {"name": self.title}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value not in ("", (), {}):
                record[field.name] = value
        return record | (
            {"experts_of_pieces": [vars(piece) for piece in self.experts_of_pieces]}
            if self.experts_of_pieces
            else {}
        )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Row":
        """Inverse of `to_json`; other entries of the record are skipped."""
        key = (
            RowKey(Role(record["role"]), record.get("variant", ""))
            if "role" in record
            else RowKey.parse(record["name"])
        )
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: _frozen(value) for name, value in record.items() if name in names}
        pieces = tuple(Piece(**piece) for piece in record.get("experts_of_pieces", ()))
        return cls(**values | key._asdict() | {"experts_of_pieces": pieces})


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sentence of the test text with the output of each network."""

    source: str
    reference: str
    outputs: Mapping[RowKey, str]

    def to_json(self) -> dict[str, Any]:
        outputs = {str(key): text for key, text in self.outputs.items()}
        return {"source": self.source, "reference": self.reference, "outputs": outputs}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Sample":
        """Inverse of `to_json`."""
        outputs = record.get("outputs")
        if outputs is None:  # version 0.1: the titles are keys of the record itself
            outputs = {k: text for k, text in record.items() if k not in ("source", "reference")}
        return cls(
            record["source"],
            record["reference"],
            {RowKey.parse(key): text for key, text in outputs.items()},
        )


def find(results: Sequence[Row], key: RowKey) -> Row | None:
    """The row with this key, or None."""
    return next((row for row in results if row.key == key), None)


def _frozen(value: Any) -> Any:
    """Lists of a JSON file as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _key_of_title(title: str) -> RowKey:
    for variant, words in _BASELINE_TITLES.items():
        if words == title:
            return RowKey(Role.BASELINE, variant)
    words, _, variant = title.partition(" (")
    for role, start in _ROLE_TITLES.items():
        if words == start:
            return RowKey(role, variant.removesuffix(")"))
    return RowKey(Role.BASELINE, title.replace(" ", "_"))
