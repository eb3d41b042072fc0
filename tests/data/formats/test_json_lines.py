"""JSON Lines: fields by name, Hugging Face's objects in objects, and lines that are none."""

import pytest

from automoe_jax.data.formats import json_lines
from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Unit, Wanted
from automoe_jax.errors import UserError


def read(tmp_path, content, **wanted):
    path = tmp_path / "a"
    path.write_text(content)
    settings = {"languages": ("en", "de")} | wanted
    return list(json_lines.pairs(TextFile(str(path)), Wanted(**settings)))


@pytest.mark.parametrize(
    "line",
    [
        '{"translation": {"de": "Grüße", "en": "regards"}}',
        '{"id": 7, "translation": {"en": "regards", "de": "Gr\\u00fc\\u00dfe", "fr": "x"}}',
        '{"en-GB": "regards", "de": "Grüße"}',
        '{"source": "regards", "target": "Grüße"}',
    ],
)
def test_fields_are_recognised(tmp_path, line):
    assert read(tmp_path, f"{line}\n{line}") == [Unit(i, "regards", "Grüße") for i in (1, 2)]


def test_fields_are_named_by_the_settings(tmp_path):
    line = '{"pair": {"a": "one", "b.c": "x"}, "b": "eins"}\n'
    assert read(tmp_path, line, columns=("pair.a", "b")) == [Unit(1, "one", "eins")]
    dotted = '{"x.y": "one", "b": "eins"}\n'
    assert read(tmp_path, dotted, columns=("x.y", "b")) == [Unit(1, "one", "eins")]


def test_classes_may_be_numbers_and_null_is_blank(tmp_path):
    content = (
        '{"text": "a", "label": 1}\n{"text": "b", "label": true}\n{"text": null, "label": 0}\n'
    )
    assert read(tmp_path, content, labelled=True) == [
        Unit(1, "a", "1"),
        Unit(2, "b", "true"),
        Unit(3, "", "0"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"en": "a", "de": "b"}\n{"en": "a"\n', r"a, line 2 is not JSON Lines \(Expecting"),
        ('[{"en": "a", "de": "b"}]\n', r"a, line 1 is not JSON Lines .* jq -c '\.\[\]'"),
        ('"text"\n', r"a, line 1 is not JSON Lines \(it is no object\)"),
        ("[" * 100_000, r"a, line 1 is not JSON Lines"),
        ('{"en": "a", "de": ' + "1" * 5000 + "}", r"a, line 1 is not JSON Lines \(Exceeds"),
        (
            '{"en": "a", "fr": "b"}\n',
            r"a, line 1 has 'en', 'fr', none of which is known as the 'en' text",
        ),
        (
            '{"en": "a", "de": "b"}\n{"en": "a", "ed": "b"}\n',
            r"a, line 2 has no field 'de', only 'en', 'ed'; every line must have the same fields",
        ),
        (
            '{"en": "a", "de": ["b"]}\n',
            r"""a, line 1 has \["b"\] in the field 'de', which must hold text""",
        ),
        ('{"en": "a", "de": 3}\n', r"a, line 1 has 3 in the field 'de'"),
        ('{"en": "a", "de": "b"}\n\n', r"a, line 2 is not JSON Lines"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_blank_lines_are_blank_pairs_if_these_are_skipped(tmp_path):
    content = '{"en": "a", "de": "b"}\n\n{"en": "c", "de": "d"}\n'
    assert read(tmp_path, content, skip_blank=True)[1:] == [Unit(2, "", ""), Unit(3, "c", "d")]
