"""TSV and CSV: quotation marks, headers, delimiters and lines that break the rules."""

import pytest

from automoe_jax.data.formats import delimited
from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Unit, Wanted
from automoe_jax.errors import UserError


def read(tmp_path, content, reader=delimited.csv, **wanted):
    path = tmp_path / "a"
    path.write_bytes(content.encode())
    notes = []
    settings = {"languages": ("en", "de")} | wanted
    return list(reader(TextFile(str(path), notes=notes), Wanted(**settings))), notes


def test_quoted_columns(tmp_path):
    content = '"Hello, ""you""","Hallo, ""du"""\r\n"two\r\nlines",zwei\r\nplain,"x"\r\n'
    units, notes = read(tmp_path, content)
    assert units == [
        Unit(1, 'Hello, "you"', 'Hallo, "du"'),
        Unit(2, "two\r\nlines", "zwei"),
        Unit(4, "plain", "x"),
    ]
    assert not notes


def test_quotation_marks_of_a_tsv_are_text(tmp_path):
    units, _ = read(tmp_path, '"Hello\t"Hallo"\n', delimited.tsv)
    assert units == [Unit(1, '"Hello', '"Hallo"')]


@pytest.mark.parametrize(
    "header", ["id,en,de", "id,EN-us,de_AT", "n,source,target", "n,src,tgt", "n,Src,Trg"]
)
def test_a_header_that_names_both_sides(tmp_path, header):
    units, notes = read(tmp_path, f"{header}\n7,one,eins\n")
    assert units == [Unit(2, "one", "eins")]
    first, second = header.split(",")[1:]
    assert notes == [f"{tmp_path}/a: columns {first!r} and {second!r} of the header"]


def test_columns_by_name_and_number(tmp_path):
    content = "german\tid\tenglish\neins\t1\tone\n"
    named = {"columns": ("english", "german")}
    assert read(tmp_path, content, delimited.tsv, **named)[0] == [Unit(2, "one", "eins")]
    numbered = {"columns": ("3", "1")}
    units, _ = read(tmp_path, content, delimited.tsv, **numbered)
    assert units == [Unit(1, "english", "german"), Unit(2, "one", "eins")]


@pytest.mark.parametrize(("delimiter", "between"), [(";", ";"), ("tab", "\t"), ("|", "|")])
def test_delimiters(tmp_path, delimiter, between):
    units, _ = read(tmp_path, f'"a{between}b"{between}c\n', delimiter=delimiter)
    assert units == [Unit(1, f"a{between}b", "c")]


def test_labels(tmp_path):
    content = "label,text\nsport,They won\n"
    assert read(tmp_path, content, labelled=True)[0] == [Unit(2, "They won", "sport")]


def test_the_header_of_a_tsv_is_noted(tmp_path):
    units, notes = read(tmp_path, "en\tde\none\teins\n", delimited.tsv)
    assert len(units) == 2
    assert "line 1 looks like a header" in notes[0]
    assert "set config.data.source_column='en' and config.data.target_column='de'" in notes[0]


def test_blank_lines(tmp_path):
    content = "one,eins\n\ntwo,zwei\n"
    assert read(tmp_path, content, skip_blank=True)[0][1] == Unit(2, "", "")
    with pytest.raises(UserError, match=r"a, line 2 has 1 column; .* it is blank: remove that"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "wanted", "message"),
    [
        ('one,eins\n"two,zwei\n', {}, r"a, line 2 is not CSV \(unexpected end of data\); check"),
        ('one,eins\n"two"x,zwei\n', {}, r"a, line 2 is not CSV \(',' expected after '\"'\)"),
        ("one;eins\n", {}, r"line 1 has 1 column; .* if a semicolon separates them, set .*=';'"),
        ("one\teins\n", {}, r"line 1 has 1 column; .* if a TAB separates them, set .*='tab'"),
        ("a,b,c\n", {}, r"line 1 has 3 columns; .* name those of the text in .*source_column"),
        ("id,en,de\n1,one\n", {}, r"line 2 has 2 columns and line 1 has 3, separated by comma"),
        (
            "german,english\neins,one\n",
            {"columns": ("englisch", "german")},
            r"source_column='englisch' is not in line 1 of .*a, which has 'german', 'english';"
            r" did you mean 'english'\?",
        ),
        (
            "german,x\neins,one\n",
            {"columns": ("x", "")},
            r"none of which is known as the 'de' text; name the one that holds it in"
            r" config.data.target_column",
        ),
        (
            "eins,one\n",
            {"columns": ("3", "1")},
            r"config.data.source_column='3' is not in line 1 of .*a, which has 2 columns",
        ),
    ],
)
def test_mistakes_name_file_line_and_way_out(tmp_path, content, wanted, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, content, **wanted)
    assert "\n" not in str(caught.value)


def test_an_open_quotation_mark_does_not_swallow_a_large_file(tmp_path):
    content = '"open,eins\n' + "one,eins\n" * 20_000
    with pytest.raises(UserError, match=r"a, line 1 is not CSV \(field larger than field limit"):
        read(tmp_path, content)
