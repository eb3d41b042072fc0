"""A data set in TFDS's own format, written and read without TensorFlow."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from automoe_jax.config import CleaningConfig, DataConfig
from automoe_jax.data import corpus, tfds_source
from automoe_jax.errors import UserError

NAME = "wmt_local/de-en"
SIZES = {"train": 23, "validation": 5, "test": 4}


def sentence(split, i):
    letters = "abcdefghijklmnopqrstuvwxyz"[i]
    return {"en": f"the {split} {letters}", "de": f"die  Größe {split} {letters}"}


def prepare(root, version="1.0.0", splits=SIZES, languages=("de", "en"), extra=()):
    """A translation data set with the features of TFDS's WMT builders, in several array_record
    shards.
    """
    folder = root / NAME / version
    folder.mkdir(parents=True)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name="wmt_local",
        version=tfds.core.Version(version),
        data_dir=str(folder),
        module_name="local",
        config_name="de-en",
    )
    features = tfds.features.Translation(languages=languages)
    info = tfds.core.DatasetInfo(builder=identity, features=features, supervised_keys=languages)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=10, file_format="array_record")
    writer.initialize_splits(list(splits))
    for split, size in splits.items():
        rows = [sentence(split, i) for i in range(size)] + [
            row for row in extra if split == "train"
        ]
        writer.add_examples(
            {split: [dict(zip(languages, (row["de"], row["en"]), strict=True)) for row in rows]}
        )
    writer.close_all()
    return folder


def config(root, **changes):
    return DataConfig(source="tfds", name=NAME, path=str(root), **changes)


def test_splits_are_read_as_given(tmp_path):
    folder = prepare(tmp_path)
    assert len(list(folder.glob("*train*"))) == 3
    loaded = corpus.load_corpus(config(tmp_path), tmp_path)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == list(
        SIZES.values()
    )
    assert next(iter(loaded.validation)) == ("the validation a", "die Größe validation a")
    assert "tensorflow" not in sys.modules


def test_the_folder_itself_may_be_named_and_the_newest_version_is_taken(tmp_path):
    old = prepare(tmp_path, "1.9.0", dict.fromkeys(SIZES, 1))
    prepare(tmp_path, "1.10.0")
    assert len(tfds_source.load(config(tmp_path), tmp_path).test) == 4
    assert len(tfds_source.load(config(old), tmp_path).test) == 1


def test_direction_follows_the_languages(tmp_path):
    prepare(tmp_path)
    loaded = tfds_source.load(
        config(tmp_path, source_language="de", target_language="en"), tmp_path
    )
    assert loaded.test.source[0] == "die Größe test a"


def test_empty_sides_and_overlap_with_held_out_text_are_removed_and_counted(tmp_path):
    extra = [{"de": "", "en": "no German"}, {"de": "Die Größe: Test A!", "en": "leaked"}]
    prepare(tmp_path, extra=extra)
    loaded = tfds_source.load(config(tmp_path), tmp_path)
    assert len(loaded.train) == 23
    counts = loaded.statistics["preparation"]
    assert counts["pairs in train"] == 25
    assert counts["pairs in train with an empty side removed"] == 1
    assert counts["near-duplicates of held-out lines removed"] == 1


def test_at_most_the_asked_pairs(tmp_path):
    prepare(tmp_path)
    first, again = (tfds_source.load(config(tmp_path, pairs=7), tmp_path).train for _ in range(2))
    assert first == again
    assert len(first) == 7


def test_missing_language_and_split(tmp_path):
    prepare(tmp_path / "a", languages=("fr", "en"))
    with pytest.raises(
        UserError,
        match=r"config.data.target_language='de' is not in .*; its features are \['en', 'fr'\]",
    ):
        tfds_source.load(config(tmp_path / "a"), tmp_path)
    prepare(tmp_path / "b", splits={"train": 3, "test": 3})
    with pytest.raises(
        UserError,
        match=(
            r"has no validation split; it needs train and validation, and has \['test', 'train'\]"
        ),
    ):
        tfds_source.load(config(tmp_path / "b"), tmp_path)


def test_without_a_test_split_half_of_the_validation_split_is_it(tmp_path):
    prepare(tmp_path, splits={"train": 20, "validation": 9})
    loaded = tfds_source.load(config(tmp_path, test_pairs=3), tmp_path)
    assert (len(loaded.validation), len(loaded.test)) == (6, 3)
    assert not set(loaded.validation.source) & set(loaded.test.source)
    assert loaded.statistics["notes"].endswith("drawn from the validation split")
    assert len(tfds_source.load(config(tmp_path), tmp_path).test) == 4
    assert tfds_source.load(config(tmp_path, test_pairs=3), tmp_path) == loaded


def test_rules_of_cleaning_are_applied_to_the_training_text(tmp_path):
    extra = [{"de": "the same", "en": "the same"}, {"de": "the same", "en": "the same"}]
    prepare(tmp_path, extra=extra)
    assert len(tfds_source.load(config(tmp_path), tmp_path).train) == 25
    exact = CleaningConfig(duplicates="exact")
    assert len(tfds_source.load(config(tmp_path, cleaning=exact), tmp_path).train) == 24
    cleaning = CleaningConfig(drop_identical=True)
    loaded = tfds_source.load(config(tmp_path, cleaning=cleaning), tmp_path)
    assert len(loaded.train) == 23
    first = loaded.removals[0]
    assert (first["rule"], first["count"]) == ("pairs of identical sides removed", 2)


def test_not_prepared_says_what_to_install(tmp_path):
    if tfds_source.importlib.util.find_spec("tensorflow"):
        pytest.skip("TensorFlow is installed here, so the data set would be prepared")
    with pytest.raises(
        UserError,
        match=(
            r"wmt_local/de-en\' is not prepared in .* needs TensorFlow; pip install"
            r' "automoe_jax\[data\]"'
        ),
    ):
        tfds_source.load(config(tmp_path), tmp_path)


def prepare_labelled(root, splits, names=("no", "yes")):
    """A data set of pairs of texts with the features of TFDS's GLUE builders; `splits`: name ->
    classes, -1 for unknown.
    """
    folder = root / "glue_local" / "rte" / "1.0.0"
    folder.mkdir(parents=True)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name="glue_local",
        version=tfds.core.Version("1.0.0"),
        data_dir=str(folder),
        module_name="local",
        config_name="rte",
    )
    features = tfds.features.FeaturesDict(
        {
            "sentence1": tfds.features.Text(),
            "sentence2": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(names)),
            "idx": np.int32,
        }
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=10, file_format="array_record")
    writer.initialize_splits(list(splits))
    for split, classes in splits.items():
        rows = [
            {
                "sentence1": f"{split} first {chr(97 + i)}",
                "sentence2": "second",
                "label": label,
                "idx": i,
            }
            for i, label in enumerate(classes)
        ]
        writer.add_examples({split: rows})
    writer.close_all()


def labelled(root, **changes):
    return DataConfig(source="tfds", name="glue_local/rte", path=str(root), **changes)


def test_texts_side_by_side_and_classes_by_name(tmp_path):
    prepare_labelled(tmp_path, {"train": [0, 1] * 8, "validation": [1, 1, 0], "test": [-1, -1]})
    loaded = corpus.load_corpus(labelled(tmp_path, validation_pairs=4), tmp_path, "classify")
    assert list(loaded.test) == [
        (f"validation first {letter} | second", name)
        for letter, name in zip("abc", ("yes", "yes", "no"), strict=True)
    ]
    assert isinstance(loaded.test, corpus.Labelled)
    assert (len(loaded.train), len(loaded.validation)) == (12, 4)
    assert not set(loaded.train.source) & set(loaded.validation.source)
    assert loaded.statistics["preparation"]["texts in test without a class removed"] == 2
    assert loaded.statistics["splits"]["train"] == {"pairs": 12, "source_words": 60, "classes": 2}
    assert (
        corpus.load_corpus(labelled(tmp_path, validation_pairs=4), tmp_path, "classify") == loaded
    )


def test_a_test_split_with_classes_is_used(tmp_path):
    prepare_labelled(tmp_path, {"train": [0, 1] * 8, "validation": [1], "test": [0, 1]})
    assert (
        len(tfds_source.load_labelled(labelled(tmp_path, validation_pairs=4), tmp_path).test) == 2
    )


def test_what_cannot_be_classified_is_said(tmp_path):
    prepare(tmp_path)
    with pytest.raises(
        UserError,
        match=(
            r"is no data set to classify: it needs a text and a class called 'label'; its features"
            r" are \['de', 'en'\]"
        ),
    ):
        tfds_source.load_labelled(config(tmp_path), tmp_path)
    prepare_labelled(tmp_path, {"train": [0, 1], "test": [-1]})
    with pytest.raises(
        UserError, match=r"needs a train split and another one with labels, and has \['test'\]"
    ):
        tfds_source.load_labelled(labelled(tmp_path), tmp_path)
