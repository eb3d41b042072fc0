"""Files of a results folder: of each run a record and its outputs, and the references.

- `NAME-SEED.json`: a `Record`, compact JSON.
- `NAME-SEED.outputs.json.xz`: {row: outputs for the test text}.
- `references-DIGEST.json.xz`: the references of the test text, whose digest the records hold.
- `latency.json`: latencies of all networks (`latencies`).
- `rates.json`: validation loss of each learning rate (`rates`).

Folders of version 0.1, with outputs inside the records and the text in `test-DIGEST.json`, are read
as well.
"""

import dataclasses
import datetime
import hashlib
import json
import lzma
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath

from automoe_jax.costs import sparsity
from automoe_jax.errors import UserError
from automoe_jax.evaluation import results as evaluation
from automoe_jax.evaluation.networks import inferences
from automoe_jax.names import VALIDATION
from automoe_jax.report.comparison import Curve
from automoe_jax.report.plots import series
from automoe_jax.report.rows import Row, RowKey
from automoe_jax.runtime.files import atomic_writer, read_json, readable
from automoe_jax.train.metrics import read_metrics
from automoe_jax.workdir import Workdir

LATENCY, RATES = "latency.json", "rates.json"
_TEXTS = re.compile(r"test-[0-9a-f]{12}\.json")  # of version 0.1
_STAGES = ("supernet", "search", "retrain", "evaluate")  # whose times are recorded


@dataclasses.dataclass(frozen=True)
class Record:
    """One finished run."""

    name: str  # of the configuration
    seed: int
    date: str
    device: str
    versions: Mapping[str, str]
    test: str  # digest of the test text
    arch: Mapping[str, Any]  # `Arch.to_dict`
    vocab_size: int
    classes: int  # 0 for translation
    sparsity: float  # `costs.sparsity`
    sparsity_published: float
    stage_seconds: Mapping[str, float | None]
    rows: tuple[Row, ...]  # of the retrained sub-Transformer
    disagreement: Curve  # while training, between two passes, nats per token
    validation_nll: Curve
    config: Mapping[str, Any]  # flat
    target_vocab_size: int = 0  # 0: as many pieces as the source has

    @property
    def run(self) -> str:
        """Name of the run and of its files."""
        return f"{self.name}-{self.seed}"

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"rows": [row.to_json() for row in self.rows]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Record":
        """Inverse of `to_json`."""
        rows = tuple(Row.from_json(row) for row in record["rows"])
        curves = {name: tuple(record.get(name, ([], []))) for name in ("disagreement", VALIDATION)}
        return cls(**{**record, **curves, "rows": rows})


def keep(workdir: Workdir, name: str, seed: int, results: Path) -> None:
    """Writes the record and the outputs of a finished run, and the references of its test text."""
    evaluated, arch = evaluation.load(workdir), workdir.arch()
    text = {
        side: lines[: evaluated.sentences]
        for side, lines in read_json(workdir.text_path("test")).items()
    }
    digest = hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:12]
    own, published = sparsity(arch)
    spec = workdir.spec(workdir.config(), arch)
    # not those of the deployed engine: systems are compared in one engine
    compared = inferences(workdir.config())
    metrics = read_metrics(workdir.retrained)
    record = Record(
        name=name,
        seed=seed,
        date=datetime.date.today().isoformat(),
        device=evaluated.device,
        versions=evaluated.versions,
        test=digest,
        arch=arch.to_dict(),
        vocab_size=spec.vocab_size,
        target_vocab_size=spec.target_vocab_size,
        classes=spec.classes,
        sparsity=own,
        sparsity_published=published,
        stage_seconds={stage: workdir.seconds(stage) for stage in _STAGES},
        rows=tuple(row for row in evaluated.rows if row.key in compared),
        disagreement=_curve(metrics, "disagreement"),
        validation_nll=_curve(metrics, VALIDATION),
        config=read_json(workdir.config_path),
    )
    outputs = {str(row.key): _row_outputs(workdir, row.key) for row in record.rows}
    _write_packed(_references_path(results, digest), text["target"])
    _write_packed(_outputs_path(results, record.run), outputs)
    with atomic_writer(record_path(results, record.run)) as file:
        file.write(_compact(record.to_json()))
    (results / LATENCY).unlink(missing_ok=True)  # does not contain this run


def record_path(results: Path, run: str) -> Path:
    """File of a run's record, which exists once the run is finished."""
    return results / f"{run}.json"


def load_record(results: Path, run: str) -> Record:
    """The record of a finished run; raises `UserError` for a damaged one."""
    path = epath.Path(record_path(results, run))
    with readable(path):
        return Record.from_json(read_json(path, dict))


def load_records(results: Path) -> list[Record]:
    """Records of all finished runs, by file name."""
    return [
        load_record(results, path.stem)
        for path in sorted(results.glob("*.json"))
        if path.name not in (LATENCY, RATES) and not _TEXTS.fullmatch(path.name)
    ]


def load_outputs(results: Path, record: Record) -> dict[RowKey, list[str]]:
    """Outputs of a run for the test text, by row; raises `UserError` where the file is missing."""
    path = _outputs_path(results, record.run)
    if path.exists():
        return {RowKey.parse(key): texts for key, texts in _read_packed(path).items()}
    rows = read_json(epath.Path(record_path(results, record.run)))["rows"]
    if not all("outputs" in row for row in rows):
        raise UserError(
            f"{path} is missing; copy it from the machine that trained {record.run}, into the same"
            f" folder as {record.run}.json"
        )
    return {Row.from_json(row).key: row["outputs"] for row in rows}


def load_references(results: Path, digest: str) -> list[str]:
    """References of the test text; raises `UserError` where the file is missing."""
    path, old = _references_path(results, digest), results / f"test-{digest}.json"
    if path.exists():
        return _read_packed(path)
    if old.exists():
        return read_json(epath.Path(old))["target"]
    raise UserError(f"{path} is missing; copy it from the machine that trained the runs")


def _references_path(results: Path, digest: str) -> Path:
    return results / f"references-{digest}.json.xz"


def _outputs_path(results: Path, run: str) -> Path:
    return results / f"{run}.outputs.json.xz"


def _row_outputs(workdir: Workdir, key: RowKey) -> list[str]:
    scored = evaluation.load_row(workdir, key)
    if scored is None:
        raise UserError(
            f"{workdir.evaluate / f'{key}.json'} is missing; remove"
            f" {workdir.root / 'stages' / 'evaluate.json'} and run the same command again"
        )
    return scored.outputs


def _curve(metrics: list[dict[str, Any]], key: str) -> Curve:
    steps, values = series(metrics, key)
    return steps.tolist(), values.tolist()


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _write_packed(path: Path, value: Any) -> None:
    with atomic_writer(path) as file:
        file.write(lzma.compress(_compact(value), preset=9))


def _read_packed(path: Path) -> Any:
    try:
        return json.loads(lzma.decompress(path.read_bytes()))
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it with its run's JSON file and run the same"
            " command again"
        ) from None
