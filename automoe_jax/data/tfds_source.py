"""Data sets of TensorFlow Datasets, such as "wmt14_translate/de-en" and, for classification,
"glue/sst2"; read without TensorFlow.

A data set is prepared once, which needs TensorFlow (`pip install "automoe_jax[data]"`), in the
array_record format; after that, reading its records needs no TensorFlow, on any machine. Its splits
are used unchanged.
"""

import importlib.util
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus
from automoe_jax.data.cleaning import clean_line, decoded
from automoe_jax.errors import UserError

FILE_FORMAT = "array_record"
LABEL = "label"
BETWEEN = " | "  # separates the texts of a pair, such as GLUE's premise and hypothesis


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of the data set `config.name`, found in or below `config.path` (TFDS's own folder
    when empty).
    """
    del cache_dir
    builder = _open(_prepared_folder(config))
    _check_translations(builder, config)
    counts: dict[str, int] = {}
    splits = {name: _read(builder, name, config, counts) for name in corpus.SPLITS}
    train, validation, test = splits["train"], splits["validation"], splits["test"]
    clean = corpus.without_overlap(train, [validation, test])
    counts[corpus.OVERLAPPING] = len(train) - len(clean)
    return corpus.finished(
        "tfds",
        corpus.limited(clean, config),
        validation,
        test,
        counts,
        f"{config.name}, splits as given",
    )


def load_labelled(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """Texts and classes of the data set `config.name`: its text features, joined, and its "label".

    As the public test splits of GLUE have no labels, its (first) validation split is the test text
    there, and `config.validation_pairs` of the training text, drawn by `config.seed`, are held out
    for validation.
    """
    del cache_dir
    builder = _open(_prepared_folder(config))
    _check_labels(builder)
    counts: dict[str, int] = {}
    held_out = sorted(
        builder.info.splits.keys() - {"train"}, key=lambda name: (name != "test", name)
    )
    found = ((name, _read_labelled(builder, name, counts)) for name in held_out)
    name, test = next(((name, rows) for name, rows in found if len(rows)), ("", None))
    if test is None or "train" not in builder.info.splits:
        raise UserError(
            f"config.data.name={config.name!r} needs a train split and another one with labels, and"
            f" has {held_out}"
        )
    train = corpus.without_overlap(rows := _read_labelled(builder, "train", counts), [test])
    counts[corpus.OVERLAPPING] = len(rows) - len(train)
    if len(train) <= config.validation_pairs:
        raise UserError(
            f"config.data.validation_pairs={config.validation_pairs} must be fewer than the"
            f" {len(train)} training pairs"
        )
    order = np.random.default_rng(config.seed).permutation(len(train)).tolist()
    validation = train.take(sorted(order[: config.validation_pairs]))
    train = corpus.without_overlap(
        train.take(sorted(order[config.validation_pairs :])), [validation]
    )
    notes = f"{config.name}, test split: {name}"
    return corpus.finished("tfds", corpus.limited(train, config), validation, test, counts, notes)


def find_prepared(config: DataConfig) -> epath.Path | None:
    """The folder that holds the prepared data set's description: `config.path` itself, or its
    newest version below.
    """
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
    """Folder of the data set, which is prepared now if necessary and possible."""
    if not find_prepared(config) and importlib.util.find_spec("tensorflow"):
        _prepare(config)
    folder = find_prepared(config)
    if not folder:
        raise UserError(
            f"config.data.name={config.name!r} is not prepared in {_root(config)} and preparing it"
            ' needs TensorFlow; pip install "automoe_jax[data]" and run again, or set'
            " config.data.path to a folder where it is prepared"
        )
    return folder


def _prepare(config: DataConfig) -> None:
    """Downloads and converts the data set with TensorFlow."""
    try:
        builder = tfds.builder(config.name, data_dir=_root(config))
        builder.download_and_prepare(file_format=FILE_FORMAT)
    except tfds.core.DatasetNotFoundError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"config.data.name={config.name!r} is not a data set of TensorFlow Datasets ({reason})"
        ) from None


def _open(folder: epath.Path) -> tfds.core.DatasetBuilder:
    builder = tfds.builder_from_directory(folder)
    if builder.info.file_format.value != FILE_FORMAT:
        raise UserError(
            f"{folder} is prepared as {builder.info.file_format.value}, which only TensorFlow"
            f" reads; prepare it again with download_and_prepare(file_format={FILE_FORMAT!r})"
        )
    return builder


def _check_translations(builder: tfds.core.DatasetBuilder, config: DataConfig) -> None:
    folder, languages = builder.data_path, _features(builder)
    for field in ("source_language", "target_language"):
        language = getattr(config, field)
        if language not in languages:
            raise UserError(
                f"config.data.{field}={language!r} is not in {folder}; its features are"
                f" {sorted(languages)}"
            )
    missing = [name for name in corpus.SPLITS if name not in builder.info.splits]
    if missing:
        raise UserError(
            f"{folder} has no {' and no '.join(missing)} split; it needs train, validation and test"
            f" and has {sorted(builder.info.splits)}"
        )


def _check_labels(builder: tfds.core.DatasetBuilder) -> None:
    features = _features(builder)
    if not isinstance(features.get(LABEL), tfds.features.ClassLabel) or not _text_features(builder):
        raise UserError(
            f"{builder.data_path} is no data set to classify: it needs a text and a class called"
            f" {LABEL!r}; its features are {sorted(features)}"
        )


def _features(builder: tfds.core.DatasetBuilder) -> dict[str, tfds.features.FeatureConnector]:
    return (
        dict(builder.info.features)
        if isinstance(builder.info.features, tfds.features.FeaturesDict)
        else {}
    )


def _text_features(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Text features by name; the description of a prepared data set has no order."""
    return sorted(
        name
        for name, feature in _features(builder).items()
        if isinstance(feature, tfds.features.Text)
    )


def _read_labelled(
    builder: tfds.core.DatasetBuilder, name: str, counts: dict[str, int]
) -> corpus.Labelled:
    """The cleaned texts of one split and the names of their classes, without entries that lack
    either.
    """
    names, texts = _features(builder)[LABEL].names, _text_features(builder)
    rows = list(builder.as_data_source(name))
    known = [row for row in rows if row[LABEL] >= 0]
    pairs = corpus.Labelled(
        tuple(BETWEEN.join(_text(row[feature]) for feature in texts) for row in known),
        tuple(names[row[LABEL]] for row in known),
    )
    counts[f"texts in {name}"], counts[f"texts in {name} without a class removed"] = (
        len(rows),
        len(rows) - len(known),
    )
    return corpus.filtered(
        pairs, counts, f"texts in {name} that are empty removed", lambda source, _: bool(source)
    )


def _read(
    builder: tfds.core.DatasetBuilder, name: str, config: DataConfig, counts: dict[str, int]
) -> corpus.Pairs:
    """The cleaned pairs of one split, without pairs with an empty side."""
    rows = [
        (_text(row[config.source_language]), _text(row[config.target_language]))
        for row in builder.as_data_source(name)
    ]
    pairs = corpus.Pairs(tuple(source for source, _ in rows), tuple(target for _, target in rows))
    counts[f"pairs in {name}"] = len(pairs)
    return corpus.filtered(
        pairs,
        counts,
        f"pairs in {name} with an empty side removed",
        lambda source, target: bool(source and target),
    )


def _text(value: bytes | str) -> str:
    try:
        return clean_line(decoded(value) if isinstance(value, bytes) else value)
    except ValueError as error:
        raise UserError(
            f"a text of the data set is not UTF-8 ({error}); prepare the data set again"
        ) from None
