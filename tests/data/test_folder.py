"""Folders of parallel files as of WMT and Moses."""

import gzip

import pytest

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus, folder
from automoe_jax.data.origin import digests
from automoe_jax.errors import UserError

SGML = '<srcset setid="x" srclang="any"><doc docid="a">\n{}</doc></srcset>\n'


def wmt(root):
    """A folder as of WMT'14: training text of several sources, test sets of several years."""
    for language, words in (("en", "one two three"), ("de", "eins zwei drei")):
        lines = [f"{word}\n" for word in words.split()]
        (root / f"europarl-v7.de-en.{language}").write_text("".join(lines[:2]) + "\nx\n")
        (root / f"commoncrawl.de-en.{language}.gz").write_bytes(gzip.compress(lines[2].encode()))
        (root / f"newstest2012.{language}").write_text(f"{language} of 2012\n")
        (root / f"newstest2013.{language}").write_text(f"{language} of 2013\n" * 2)
        segments = f'<seg id="1">{language} of &quot;2014&quot;</seg>\n<seg id="2">Three!</seg>\n'
        side = "src" if language == "de" else "ref"
        (root / f"newstest2014-deen-{side}.{language}.sgm").write_text(SGML.format(segments))
    (root / "README").write_text("not parallel")
    (root / "mono.en").write_text("English only\n")


def config(root, **settings):
    return DataConfig(source="folder", path=str(root), **settings)


def test_files_as_of_wmt(tmp_path):
    wmt(tmp_path)
    loaded = corpus.load_corpus(config(tmp_path), tmp_path)
    assert list(loaded.train) == [("one", "eins"), ("two", "zwei"), ("x", "x")]
    assert list(loaded.validation) == [("en of 2013", "de of 2013")] * 2
    assert loaded.test.source == ('en of "2014"', "Three!")
    assert loaded.statistics["notes"] == (
        "train: commoncrawl.de-en, europarl-v7.de-en; validation: newstest2013;"
        " test: newstest2014-deen"
    )
    counts = loaded.statistics["preparation"]
    assert counts["pairs in train"] == 5
    assert counts["train: pairs with a blank side removed"] == 1
    assert counts[corpus.OVERLAPPING] == 1
    near = loaded.removals[-1]["examples"][0]
    assert near["near"] == "Three!"
    assert near["place"].endswith("commoncrawl.de-en.en.gz, line 1")
    backwards = folder.load(config(tmp_path, source_language="de", target_language="en"), tmp_path)
    assert backwards.train.source == ("eins", "zwei", "x")


def test_files_as_of_moses_in_subfolders_and_other_formats(tmp_path):
    for part in ("train", "dev", "test"):
        (tmp_path / part).mkdir()
        for language in ("en", "de"):
            (tmp_path / part / f"{part}.{language}").write_text(f"{language} in {part}\n")
    (tmp_path / "train" / "more.tsv").write_text("one\teins\n")
    loaded = folder.load(config(tmp_path), tmp_path)
    assert list(loaded.train) == [("one", "eins"), ("en in train", "de in train")]
    assert list(loaded.validation) == [("en in dev", "de in dev")]
    assert list(loaded.test) == [("en in test", "de in test")]
    assert len(digests(config(tmp_path))) == 7


def test_sets_named_by_the_settings(tmp_path):
    wmt(tmp_path)
    named = config(tmp_path, test_files="newstest2012, commoncrawl*", validation_files="*2014*")
    sets = folder.find(named)
    assert [one.name for one in sets.test] == ["commoncrawl.de-en", "newstest2012"]
    assert [one.name for one in sets.validation] == ["newstest2014-deen"]
    assert [one.name for one in sets.train] == ["europarl-v7.de-en"]
    earlier = folder.find(config(tmp_path, test_files="newstest2013"))
    assert [one.name for one in earlier.validation] == ["newstest2012"]


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"nowhere' is not a folder; config.data.source='folder'"):
        folder.find(config(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"has no parallel files: no NAME.en with a NAME.de"):
        folder.find(config(tmp_path))
    wmt(tmp_path)
    with pytest.raises(UserError, match=r"has no parallel files: no NAME.en with a NAME.cs"):
        folder.find(config(tmp_path, target_language="cs"))
    with pytest.raises(UserError, match=r"test_files='newstest2019' names 'newstest2019', and the"):
        folder.find(config(tmp_path, test_files="newstest2019"))
    with pytest.raises(UserError, match=r"has no test set among .*; name sets for validation and"):
        folder.find(config(tmp_path, test_files="newstest2013", validation_files="newstest2013"))
    (tmp_path / "commoncrawl.de-en.de.gz").write_bytes(gzip.compress(b"drei\nvier\n"))
    with pytest.raises(UserError, match=r"commoncrawl.de-en.en.gz has 1 line and .* has 2"):
        folder.load(config(tmp_path), tmp_path)


def test_no_test_set(tmp_path):
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").write_text("one\n")
    with pytest.raises(UserError, match=r"has no test set among train; name sets for validation"):
        folder.load(config(tmp_path), tmp_path)
