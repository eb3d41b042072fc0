"""Files of the evaluation: one for each row with its outputs, and `results.json` with all rows."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from automoe_jax.report.rows import Role, Row, RowKey, Sample
from automoe_jax.runtime.files import read_json, readable, write_json
from automoe_jax.workdir import Workdir


class Scored(NamedTuple):
    """A row and the outputs that it scores."""

    row: Row
    outputs: list[str]  # translations or classes, one for each sentence of the test text


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Contents of `results.json`."""

    rows: list[Row]
    samples: list[Sample]
    sentences: int  # of the test text that were used
    output_size: int  # pieces of the vocabulary, or classes
    device: str
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "rows": [row.to_json() for row in self.rows],
            "samples": [sample.to_json() for sample in self.samples],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Evaluation":
        """Inverse of `to_json`; also reads the files of version 0.1."""
        rows = [Row.from_json(row) for row in record["rows"]]
        samples = [Sample.from_json(sample) for sample in record["samples"]]
        return cls(**{**record, "rows": rows, "samples": samples})


def load(workdir: Workdir) -> Evaluation:
    """The finished evaluation of a workdir."""
    path = workdir.results_path
    with readable(path):
        return Evaluation.from_json(read_json(path))


def save(workdir: Workdir, evaluation: Evaluation) -> None:
    """Writes `results.json`."""
    write_json(workdir.results_path, evaluation.to_json())


def row_paths(workdir: Workdir) -> list[epath.Path]:
    """The files of the rows in `results.json`, without the baselines, which have none; empty where
    it does not exist or is of version 0.1, which named the files by titles.
    """
    path = workdir.results_path
    if not path.exists():
        return []
    with readable(path):
        rows = [row for row in read_json(path, dict)["rows"] if "role" in row]
        keys = [Row.from_json(row).key for row in rows]
    return [_row_path(workdir, key) for key in keys if key.role is not Role.BASELINE]


def load_row(workdir: Workdir, key: RowKey) -> Scored | None:
    """The row with its outputs, or None where it has not been computed yet."""
    path = _row_path(workdir, key)
    if not path.exists():
        return None
    with readable(path):
        record = read_json(path)
        return Scored(Row.from_json(record), record["outputs"])


def save_row(workdir: Workdir, scored: Scored) -> None:
    """Writes the file of one row."""
    record = scored.row.to_json() | {"outputs": scored.outputs}
    write_json(_row_path(workdir, scored.row.key), record)


def _row_path(workdir: Workdir, key: RowKey) -> epath.Path:
    return workdir.evaluate / f"{key}.json"
