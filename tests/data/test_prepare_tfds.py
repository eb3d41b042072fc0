"""Preparation of data sets of TensorFlow Datasets, from local text and without a network."""

import importlib.util
import os
import types

import pytest
import tensorflow_datasets as tfds

from automoe_jax.config import DataConfig
from automoe_jax.data import prepare_tfds, tfds_source
from automoe_jax.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # of TFDS itself
SENTENCES = [(f"line {word}", f"Zeile {word}") for word in ("alo", "emi", "iru", "oga")]


class WmtLocal(tfds.core.GeneratorBasedBuilder):
    """A translation data set from lines of text, in the features of WMT's."""

    VERSION = tfds.core.Version("1.0.0")
    fails: Exception | None = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.Translation(languages=("de", "en"))
        )

    def _split_generators(self, dl_manager):
        return {name: self._rows(name) for name in ("train", "validation", "test")}

    def _generate_examples(self):
        raise NotImplementedError

    def _rows(self, name):
        if self.fails and name == "test":
            raise self.fails
        for i, (source, target) in enumerate(SENTENCES):
            yield i, {"en": f"{source} {name}", "de": f"{target} {name}"}


@pytest.fixture(autouse=True)
def _whole(monkeypatch):
    monkeypatch.setattr(WmtLocal, "fails", None)


def test_prepared_once_and_read(tmp_path, capsys):
    folder = prepare_tfds.prepare("wmt_local", str(tmp_path))
    assert "wmt_local is prepared in" in capsys.readouterr().out
    config = DataConfig(source="tfds", name="wmt_local", path=str(tmp_path))
    loaded = tfds_source.load(config, tmp_path)
    assert sorted(loaded.test) == sorted((f"{a} test", f"{b} test") for a, b in SENTENCES)
    assert prepare_tfds.prepare("wmt_local", str(tmp_path)) == folder
    assert capsys.readouterr().out == f"wmt_local is prepared in {folder}\n"


def test_an_interrupted_preparation_runs_again(tmp_path, monkeypatch):
    monkeypatch.setattr(WmtLocal, "fails", ConnectionError("no route"))
    with pytest.raises(UserError, match=r"a download of wmt_local failed \(.*no route.*\)"):
        prepare_tfds.prepare("wmt_local", str(tmp_path))
    stale = tmp_path / "wmt_local" / "incomplete.ABC_1.0.0"
    stale.mkdir(parents=True)
    monkeypatch.setattr(WmtLocal, "fails", None)
    folder = prepare_tfds.prepare("wmt_local", str(tmp_path))
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


@pytest.mark.parametrize(
    ("name", "least", "unknown"),
    [
        ("wmt14_translate/de-en", 1_695_017_123, 0),
        ("wmt14_translate/fr-en", 1_695_017_123, 2),
        ("wmt19_translate/de-en", 10_421_992_680, 0),
    ],
)
def test_the_disk_that_wmt_needs_is_said_first(tmp_path, name, least, unknown):
    builder = prepare_tfds.open_builder(name, tmp_path)
    assert prepare_tfds.download_bytes(builder) == (least, unknown)
    first, second = prepare_tfds.needs(builder, tmp_path)
    assert first.endswith("of unknown size") == bool(unknown)
    assert f"{least / 1e9:.1f} GB to download" in first
    assert "GB of disk in" in second


def test_too_little_disk(tmp_path, monkeypatch):
    little = types.SimpleNamespace(free=10**9)
    monkeypatch.setattr(prepare_tfds.shutil, "disk_usage", lambda path: little)
    with pytest.raises(UserError, match=r"lacks about 7.5 GB of free disk for wmt14"):
        prepare_tfds.prepare("wmt14_translate/de-en", str(tmp_path / "new"))


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="has TensorFlow")
def test_missing_tensorflow(tmp_path, monkeypatch, capsys):
    plenty = types.SimpleNamespace(free=10**13)
    monkeypatch.setattr(prepare_tfds.shutil, "disk_usage", lambda path: plenty)
    with pytest.raises(UserError, match=r'needs TensorFlow.*: pip install "automoe_jax\[data\]"'):
        prepare_tfds.main(["--name=wmt14_translate/de-en", f"--data_dir={tmp_path}"])
    assert "1.7 GB to download" in capsys.readouterr().out


def test_names(tmp_path):
    with pytest.raises(UserError, match=r"'wmt41_translate' is not a data set .* you mean 'wmt"):
        prepare_tfds.prepare("wmt41_translate", str(tmp_path))
    with pytest.raises(UserError, match=r"'wmt14_translate/xx-en': .*"):
        prepare_tfds.prepare("wmt14_translate/xx-en", str(tmp_path))


def test_folders(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"--data_dir=.* is not a folder \(.*file is a file\)"):
        prepare_tfds.prepare("wmt_local", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"--data_dir=.* cannot be written to"):
        prepare_tfds.prepare("wmt_local", str(tmp_path))
