"""Command: prepares a data set of TensorFlow Datasets for `data.source = "tfds"`.

    python -m automoe_jax.data.prepare_tfds --name=wmt14_translate/de-en --data_dir=DIR

Prints the disk space that it needs, downloads, and writes the records in the format that this
package reads without TensorFlow. It can be stopped at any time: complete downloads are used again.
"""

import errno
import importlib.util
import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Sequence

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.download import util as download_util
from tensorflow_datasets.translate import wmt

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.config import DataConfig
from automoe_jax.errors import UserError, suggestion
from automoe_jax.runtime.files import is_local

FILE_FORMAT = "array_record"
# Unpacked files and records of a text, in bytes for each byte of its compressed download.
_UNPACKED, _RECORDS = 3.0, 1.0
_USUAL = ("wmt14_translate/de-en", "wmt14_translate/fr-en", "wmt19_translate/de-en")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares the data set that the flags name, unless it is prepared already."""
    parser = Parser(
        "automoe_jax.data.prepare_tfds", "Downloads and prepares a data set for data.source='tfds'."
    )
    parser.add_argument("--name", required=True, help=f"the data set, such as {_USUAL[0]}")
    parser.add_argument("--data_dir", default="", help="folder (default: that of TFDS)")
    flags = parser.parse(arguments)
    prepare(flags.name, flags.data_dir)


def prepare(name: str, data_dir: str = "") -> epath.Path:
    """The folder of the data set, prepared now if it is not; prints what it does.

    Raises `UserError` for an unknown data set, a folder that cannot be written to, too little disk
    space, missing TensorFlow and a failed download.
    """
    config = DataConfig(source="tfds", name=name, path=data_dir)
    root = folder_of(config)
    _check_folder(root)
    if folder := find_prepared(config):
        print(f"{name} is prepared in {folder}", flush=True)
        return folder
    builder = open_builder(name, root)
    print("\n".join(needs(builder, root)), flush=True)
    _check_space(builder, root)
    if builder.url_infos and not importlib.util.find_spec("tensorflow"):
        raise UserError(
            f"unpacking the downloads of {name} needs TensorFlow, which is not installed: pip"
            ' install "automoe_jax[data]" (reading the prepared data set needs none)'
        )
    _remove_interrupted(epath.Path(builder.data_path))
    try:
        builder.download_and_prepare(file_format=FILE_FORMAT)
    except (OSError, download_util.DownloadError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"a download of {name} failed ({reason}); run the same command again: complete"
            f" downloads in {root / 'downloads'} are used"
        ) from None
    except AssertionError as error:  # a file that has to be downloaded by hand
        reason = " ".join(str(error).split())
        raise UserError(f"{name} cannot be prepared: {reason}") from None
    print(f"{name} is prepared in {builder.data_path}", flush=True)
    return epath.Path(builder.data_path)


def find_prepared(config: DataConfig) -> epath.Path | None:
    """The folder that holds the prepared data set's description: `config.path` itself, or its
    newest version below.
    """
    root = folder_of(config)
    if _described(root):
        return root
    folder = root / config.name
    versions = [child for child in folder.iterdir() if _described(child)] if folder.exists() else []
    return max(versions, key=_version, default=None)


def folder_of(config: DataConfig) -> epath.Path:
    """The folder of prepared data sets: `config.path`, or that of TFDS."""
    return epath.Path(config.path or tfds.core.constants.DATA_DIR).expanduser()


def _described(folder: epath.Path) -> bool:
    return (folder / "dataset_info.json").exists()


def _version(folder: epath.Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in folder.name.split("."))


def open_builder(name: str, root: epath.Path) -> tfds.core.DatasetBuilder:
    """The builder of a data set; raises `UserError` if there is none of this name."""
    try:
        return tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError:
        near = suggestion(name.partition("/")[0], tfds.list_builders(with_community_datasets=False))
        raise UserError(
            f"{name!r} is not a data set of TensorFlow Datasets{near}; AutoMoE's are"
            f" {', '.join(_USUAL)}"
        ) from None
    except ValueError as error:  # an unknown configuration of a known data set
        raise UserError(f"{name!r}: {' '.join(str(error).split())}") from None


def needs(builder: tfds.core.DatasetBuilder, root: epath.Path) -> list[str]:
    """Lines about the downloads, and the disk space that they and the data set need."""
    known, unknown = download_bytes(builder)
    if not known:
        return [f"{builder.info.full_name}: the size of its downloads is not known"]
    least = "at least " if unknown else ""
    rest = f", and {unknown} files of unknown size" if unknown else ""
    return [
        f"{builder.info.full_name}: {least}{_gigabytes(known)} to download{rest}",
        f"{least}about {_gigabytes(_needed(known))} of disk in {root}, of which the downloads can"
        f" be removed afterwards; {_gigabytes(_free(root))} are free",
    ]


def download_bytes(builder: tfds.core.DatasetBuilder) -> tuple[int, int]:
    """(bytes of the downloads of known size, number of the others)."""
    infos = builder.url_infos or {}
    urls = _urls(builder) if isinstance(builder, wmt.WmtTranslate) else infos
    sizes = [infos[url].size for url in urls if url in infos]
    return sum(sizes), len(set(urls)) - len(sizes)


def _urls(builder: wmt.WmtTranslate) -> set[str]:
    """The downloads of one language pair, of all that the data set records."""
    language, _ = builder.builder_config.language_pair
    subsets = set(itertools.chain.from_iterable(builder.subsets.values()))
    return {url for name in subsets for url in wmt.DATASET_MAP[name].get_url(language)}


def _needed(download: int) -> int:
    return int(download * (1 + _UNPACKED + _RECORDS))


def _free(root: epath.Path) -> int:
    """Bytes that are free on the disk of a folder that may not exist yet."""
    there = root
    while not there.exists() and there != there.parent:
        there = there.parent
    return shutil.disk_usage(there).free


def _check_space(builder: tfds.core.DatasetBuilder, root: epath.Path) -> None:
    known, _ = download_bytes(builder)
    present = sum(_sizes((root / "downloads").glob("*"))) if (root / "downloads").exists() else 0
    missing = _needed(known) - min(present, known) - _free(root)
    if known and missing > 0:
        raise UserError(
            f"--data_dir={root} lacks about {_gigabytes(missing)} of free disk for"
            f" {builder.info.full_name}; free it, or name a folder on a larger disk"
        )


def _sizes(paths: Iterable[epath.Path]) -> Iterable[int]:
    return (path.stat().length for path in paths if path.is_file())


def _check_folder(root: epath.Path) -> None:
    if not is_local(root):
        return
    there = root
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UserError(f"--data_dir={root} is not a folder ({there} is a file); name a folder")
    if not os.access(there, os.W_OK):
        raise UserError(
            f"--data_dir={root} cannot be written to; make it writable, or name another folder"
        )


def _remove_interrupted(folder: epath.Path) -> None:
    """Removes the half-written records of a run that was stopped; its downloads stay."""
    if folder.parent.exists():
        for stale in folder.parent.glob(f"incomplete.*_{folder.name}"):
            stale.rmtree()


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


if __name__ == "__main__":
    sys.exit(run_for_people(main, resumes=True))
