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
from automoe_jax.data import corpus, rules
from automoe_jax.data.cleaning import clean_line, decoded
from automoe_jax.data.prepare_tfds import FILE_FORMAT, find_prepared, folder_of, prepare
from automoe_jax.errors import UserError

LABEL = "label"
_NEEDED = ("train", "validation")
BETWEEN = " | "  # separates the texts of a pair, such as GLUE's premise and hypothesis


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of the data set `config.name`, found in or below `config.path` (TFDS's own folder
    when empty).
    """
    del cache_dir
    builder = _open(_prepared_folder(config))
    _check_translations(builder, config)
    counts: dict[str, int] = {}
    train, validation = (_read(builder, name, config, counts) for name in _NEEDED)
    notes = f"{config.name}, splits as given"
    if "test" in builder.info.splits:
        test = _read(builder, "test", config, counts)
    else:
        validation, test = _halved(validation, config)
        notes = f"{config.name}, without a test split: drawn from the validation split"
    cleaner = rules.Cleaner(train, lambda i: f"train, clean pair {i + 1}")
    cleaner.apply(config, duplicates="kept")
    near = corpus.overlapping(cleaner.pairs, [validation, test], config.cleaning.max_similarity)
    cleaner.drop(corpus.OVERLAPPING, "config.data.cleaning.max_similarity", near)
    return corpus.finished(
        "tfds",
        corpus.limited(cleaner.pairs, config),
        validation,
        test,
        counts | cleaner.counts(),
        notes,
        (removal.as_json() for removal in cleaner.removals),
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
    splits = ((name, _read_labelled(builder, name, counts)) for name in held_out)
    name, test = next(((name, rows) for name, rows in splits if len(rows)), ("", None))
    if test is None or "train" not in builder.info.splits:
        raise UserError(
            f"config.data.name={config.name!r} needs a train split and another one with labels, and"
            f" has {held_out}"
        )
    cleaner = rules.Cleaner(
        _read_labelled(builder, "train", counts), lambda i: f"train, clean text {i + 1}"
    )
    cleaner.apply(config, labelled=True, duplicates="kept")
    similarity = config.cleaning.max_similarity
    near = corpus.overlapping(cleaner.pairs, [test], similarity)
    cleaner.drop(corpus.OVERLAPPING, "config.data.cleaning.max_similarity", near)
    train = cleaner.pairs
    if len(train) <= config.validation_pairs:
        raise UserError(
            f"config.data.validation_pairs={config.validation_pairs} must be fewer than the"
            f" {len(train)} training pairs"
        )
    order = np.random.default_rng(config.seed).permutation(len(train)).tolist()
    validation = train.take(sorted(order[: config.validation_pairs]))
    train = corpus.without_overlap(
        train.take(sorted(order[config.validation_pairs :])), [validation], similarity
    )
    notes = f"{config.name}, test split: {name}"
    return corpus.finished(
        "tfds",
        corpus.limited(train, config),
        validation,
        test,
        counts | cleaner.counts(),
        notes,
        (removal.as_json() for removal in cleaner.removals),
    )


def _prepared_folder(config: DataConfig) -> epath.Path:
    """Folder of the data set, which is prepared now if necessary and possible."""
    if folder := find_prepared(config):
        return folder
    if not importlib.util.find_spec("tensorflow"):
        root = folder_of(config)
        raise UserError(
            f"config.data.name={config.name!r} is not prepared in {root} and preparing it"
            ' needs TensorFlow; pip install "automoe_jax[data]" and run python -m'
            f" automoe_jax.data.prepare_tfds --name={config.name} --data_dir={root}, or set"
            " config.data.path to a folder where it is prepared"
        )
    return prepare(config.name, config.path)


def _open(folder: epath.Path) -> tfds.core.DatasetBuilder:
    builder = tfds.builder_from_directory(folder)
    if builder.info.file_format.value != FILE_FORMAT:
        raise UserError(
            f"{folder} is prepared as {builder.info.file_format.value}, which only TensorFlow"
            f" reads; remove it and prepare it again with python -m automoe_jax.data.prepare_tfds"
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
    missing = [name for name in _NEEDED if name not in builder.info.splits]
    if missing:
        raise UserError(
            f"{folder} has no {' and no '.join(missing)} split; it needs train and validation, and"
            f" has {sorted(builder.info.splits)}"
        )


def _halved(pairs: corpus.Pairs, config: DataConfig) -> tuple[corpus.Pairs, corpus.Pairs]:
    """(validation, test): `config.test_pairs`, at most half, drawn for the test by `config.seed`;
    pairs near a test pair are not used for validation.
    """
    order = np.random.default_rng(config.seed).permutation(len(pairs)).tolist()
    size = min(config.test_pairs, len(pairs) // 2)
    test = pairs.take(sorted(order[:size]))
    rest = pairs.take(sorted(order[size:]))
    return corpus.without_overlap(rest, [test], config.cleaning.max_similarity), test


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
