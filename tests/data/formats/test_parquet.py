"""Parquet: flat columns, structs as of Hugging Face, and files that are none."""

import io

import pytest

from automoe_jax.data.formats import parquet
from automoe_jax.data.formats.table import Unit
from automoe_jax.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def packed(**columns):
    file = io.BytesIO()
    pq.write_table(pyarrow.table(columns), file, row_group_size=2)
    return file.getvalue()


def test_flat_columns(read):
    content = packed(id=[1, 2, 3], de=["eins", None, "drei"], en=["one", "two", "three"])
    expected = [Unit(1, "one", "eins"), Unit(2, "two", ""), Unit(3, "three", "drei")]
    assert read(parquet.pairs, content) == expected


def test_structs(read):
    rows = [{"de": "eins", "en": "one"}, None, {"de": "drei", "en": None}]
    expected = [Unit(1, "one", "eins"), Unit(2, "", ""), Unit(3, "", "drei")]
    assert read(parquet.pairs, packed(translation=rows)) == expected
    content = packed(pair=[{"a": "x", "b": "y"}])
    assert read(parquet.pairs, content, columns=("pair.a", "pair.b")) == [Unit(1, "x", "y")]


def test_classes(read):
    content = packed(text=["a", "b"], label=[0, 1])
    assert read(parquet.pairs, content, labelled=True) == [Unit(1, "a", "0"), Unit(2, "b", "1")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a is not a complete Parquet file \("),
        (b"PAR1 no more", r"a is not a complete Parquet file \("),
        (packed(en=["a"], de=["b"])[:-20], r"a is not a complete Parquet file \("),
        (packed(en=["a"], fr=["b"]), r"a has 'en', 'fr', none of which is known as the 'en' text"),
        (packed(en=["a"], de=[3]), r"a, row 1 has 3 in the field 'de', which must hold text"),
    ],
)
def test_mistakes_name_the_file(read, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(parquet.pairs, content)
    assert "\n" not in str(caught.value)
