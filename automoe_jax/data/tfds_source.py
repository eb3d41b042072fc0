"""Translation data sets of TensorFlow Datasets, such as "wmt14_translate/de-en", read without TensorFlow.

A data set is prepared once, which needs TensorFlow (`pip install "automoe_jax[data]"`), in the array_record format;
from then on, on any machine, random access to its records needs no TensorFlow. Its splits are used as they are.
"""

import importlib.util
import pathlib

import tensorflow_datasets as tfds
from etils import epath

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus
from automoe_jax.errors import UserError

FILE_FORMAT = "array_record"


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of the data set `config.name`, found in or below `config.path` (TFDS's own folder when empty)."""
    del cache_dir
    builder = _open(_prepared_folder(config), config)
    counts: dict[str, int] = {}
    splits = {name: _read(builder, name, config, counts) for name in corpus.SPLITS}
    train, validation, test = splits["train"], splits["validation"], splits["test"]
    clean = corpus.without_overlap(train, [validation, test])
    counts["near-duplicates of held-out lines removed"] = len(train) - len(clean)
    return corpus.finished("tfds", corpus.limited(clean, config), validation, test, counts, f"{config.name}, splits as given")


def find_prepared(config: DataConfig) -> epath.Path | None:
    """The folder that holds the prepared data set's description: `config.path` itself, or its newest version below."""
    root = _root(config)
    if _described(root):
        return root
    folder = root / config.name
    versions = [child for child in folder.iterdir() if _described(child)] if folder.exists() else []
    return max(versions, key=_version, default=None)


def _root(config: DataConfig) -> epath.Path:
    return epath.Path(config.path or tfds.core.constants.DATA_DIR).expanduser()


def _described(folder: epath.Path) -> bool:
    return (folder / "dataset_info.json").exists()


def _version(folder: epath.Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in folder.name.split("."))


def _prepared_folder(config: DataConfig) -> epath.Path:
    """Where the data set lies, prepared now if it has to be and can be."""
    if not find_prepared(config) and importlib.util.find_spec("tensorflow"):
        _prepare(config)
    folder = find_prepared(config)
    if not folder:
        raise UserError(
            f"config.data.name={config.name!r} is not prepared in {_root(config)} and preparing it needs TensorFlow; "
            'pip install "automoe_jax[data]" and run again, or set config.data.path to a folder where it is prepared'
        )
    return folder


def _prepare(config: DataConfig) -> None:
    """Downloads and converts the data set with TensorFlow."""
    try:
        builder = tfds.builder(config.name, data_dir=_root(config))
        builder.download_and_prepare(file_format=FILE_FORMAT)
    except tfds.core.DatasetNotFoundError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"config.data.name={config.name!r} is not a data set of TensorFlow Datasets ({reason})") from None


def _open(folder: epath.Path, config: DataConfig) -> tfds.core.DatasetBuilder:
    builder = tfds.builder_from_directory(folder)
    languages = sorted(builder.info.features) if isinstance(builder.info.features, tfds.features.FeaturesDict) else []
    for field in ("source_language", "target_language"):
        language = getattr(config, field)
        if language not in languages:
            raise UserError(f"config.data.{field}={language!r} is not in {folder}; its features are {languages}")
    missing = [name for name in corpus.SPLITS if name not in builder.info.splits]
    if missing:
        raise UserError(
            f"{folder} has no {' and no '.join(missing)} split; it needs train, validation and test and has {sorted(builder.info.splits)}"
        )
    if builder.info.file_format.value != FILE_FORMAT:
        raise UserError(
            f"{folder} is prepared as {builder.info.file_format.value}, which only TensorFlow reads; "
            f"prepare it again with download_and_prepare(file_format={FILE_FORMAT!r})"
        )
    return builder


def _read(builder: tfds.core.DatasetBuilder, name: str, config: DataConfig, counts: dict[str, int]) -> corpus.Pairs:
    """The cleaned pairs of one split, without those that have an empty side."""
    rows = [(_text(row[config.source_language]), _text(row[config.target_language])) for row in builder.as_data_source(name)]
    pairs = corpus.Pairs(tuple(source for source, _ in rows), tuple(target for _, target in rows))
    counts[f"pairs in {name}"] = len(pairs)
    return corpus.filtered(pairs, counts, f"pairs in {name} with an empty side removed", lambda source, target: bool(source and target))


def _text(value: bytes | str) -> str:
    return corpus.clean_line(value.decode() if isinstance(value, bytes) else value)
