"""The folder of an exported model: its description, and the check that it is complete.

`model.json` describes the model and holds the SHA-256 checksums of every other file and of its own
contents.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from automoe_jax.errors import UserError

FORMAT = "automoe_jax"
VERSION = 5  # of the folder; readers of other versions reject it
DESCRIPTION = "model.json"
MODEL = "model.onnx"
WEIGHTS = "weights.bin"  # of the model
TOKENIZER = "tokenizer.model"
TARGET_TOKENIZER = "target_tokenizer.model"  # of a translator with separate vocabularies
SHORTLIST = "shortlist.npz"  # of a translator whose workdir has one
_OWN_CHECKSUM = "sha256"  # entry of `model.json`
LARGE_BYTES = 32 << 20  # of weights


@dataclasses.dataclass(frozen=True)
class Description:
    """Contents of `model.json`."""

    task: str  # translate or classify
    precision: str  # float32 or int8
    architecture: Mapping[str, Any]  # as Arch.to_dict gives it
    router: Mapping[str, Any]
    costs: Mapping[str, Any]  # FLOPs and parameters
    languages: Mapping[str, str]  # source and target
    license: str
    scores: Mapping[str, Any]  # BLEU and chrF on the test text, if measured
    buckets: tuple[int, ...]  # token lengths, EOS included; the last is that of the longest source
    beam_size: int
    length_penalty: float
    pad_id: int
    eos_id: int
    shortlist: int = 0  # N of the shortlist that is used by default; 0: the whole vocabulary
    labels: tuple[str, ...] = ()  # of a classifier, in the order of its outputs
    trained: str = ""  # identifies the weights


@dataclasses.dataclass(frozen=True)
class Folder:
    """An exported model on a disk."""

    path: pathlib.Path
    description: Description

    def experts(self, side: str) -> list[int]:
        """The number of experts of each layer of a side."""
        layers = self.description.architecture[side]["layers"]
        return [len(layer["expert_ffn_dims"]) for layer in layers]

    @property
    def is_large(self) -> bool:
        """Whether the products of one batch are worth several threads: those of a small model are
        over before a second thread has begun with its part.
        """
        return (self.path / WEIGHTS).stat().st_size >= LARGE_BYTES

    def file(self, name: str) -> str:
        """The path of one of its files."""
        return str(self.path / name)


def described(description: Description, files: Mapping[str, str]) -> str:
    """The text of `model.json`; files: the checksum of each."""
    top = {"format": FORMAT, "version": VERSION}
    record = top | dataclasses.asdict(description) | {"files": dict(files)}
    return json.dumps(with_checksum(record), indent=1)


def with_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of `model.json` with their own checksum."""
    return dict(record) | {_OWN_CHECKSUM: _checksum(record)}


def is_unchanged(record: Mapping[str, Any]) -> bool:
    """Whether these contents of `model.json` have their own checksum."""
    return record.get(_OWN_CHECKSUM) == _checksum(record)


def _checksum(record: Mapping[str, Any]) -> str:
    """The checksum of the contents of `model.json` without itself."""
    others = {name: value for name, value in record.items() if name != _OWN_CHECKSUM}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def open_folder(path: str | os.PathLike[str], flag: str = "--model") -> Folder:
    """The exported model at `path`; raises `UserError` unless it is complete, unchanged and of this
    version.
    """
    folder = pathlib.Path(path)
    where = f"{flag}={path}"
    try:
        fields = json.loads((folder / DESCRIPTION).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{where} holds no exported model ({DESCRIPTION} is absent); write one with python -m"
            " automoe_jax.export --workdir=DIR --out=DIR"
        ) from None
    except OSError as error:
        raise UserError(
            f"{where}/{DESCRIPTION} cannot be read ({error.strerror}); {_AGAIN}"
        ) from None
    except ValueError:
        raise UserError(f"{where}/{DESCRIPTION} is damaged; {_AGAIN}") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise UserError(f"{where}/{DESCRIPTION} describes no model of this package; {_AGAIN}")
    if (version := fields.get("version")) != VERSION:
        raise UserError(
            f"{where} has the format version {version}, and this package reads version {VERSION};"
            " export the model again with this package"
        )
    if not is_unchanged(fields):
        raise UserError(
            f"{where}/{DESCRIPTION} is not the file that was exported (its checksum differs);"
            f" {_AGAIN}"
        )
    files = fields.pop("files", None)
    for name in ("format", "version", _OWN_CHECKSUM):
        del fields[name]
    description = _description(fields) if isinstance(files, dict) else None
    if description is None:
        raise UserError(
            f"{where}/{DESCRIPTION} was written by another version of this package (its entries are"
            " different); export the model again with this package"
        )
    for name, checksum in files.items():
        _check_file(folder / name, checksum, where)
    return Folder(folder, description)


def _description(fields: Mapping[str, Any]) -> Description | None:
    """The description with these fields; None if some are missing, unknown or of another kind."""
    try:
        description = Description(**fields)
        buckets = tuple(map(int, description.buckets))
        labels = tuple(map(str, description.labels))
        if not buckets or not isinstance(description.shortlist, int):
            return None
        _ = description.languages["source"], description.languages["target"]
    except (TypeError, ValueError, LookupError):
        return None
    return dataclasses.replace(description, buckets=buckets, labels=labels)


def _check_file(path: pathlib.Path, checksum: str, where: str) -> None:
    """Raises `UserError` unless the file is complete; where: the folder, in words."""
    if not path.is_file():
        raise UserError(f"{where} lacks the file {path.name}; {_AGAIN}")
    try:
        found = sha256(path)
    except OSError as error:
        raise UserError(f"{where}/{path.name} cannot be read ({error.strerror})") from None
    if found != checksum:
        raise UserError(
            f"{where}/{path.name} is not the file that was exported (its checksum differs);"
            f" {_AGAIN}"
        )


def check_has_model(folder: Folder) -> None:
    """Raises `UserError` for an export in a format that this engine does not run."""
    if not (folder.path / MODEL).exists():
        raise UserError(
            f"--model={folder.path} holds no {MODEL}; export the workdir again with --format=onnx,"
            " the default"
        )


_AGAIN = "copy the whole folder again, or export the model again"


def sha256(path: pathlib.Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
