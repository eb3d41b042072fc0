"""TMX, XLIFF and WMT's test sets: small files as tools write them, and broken ones."""

import re

import pytest

from automoe_jax.data.formats import tmx, wmt, xliff, xml
from automoe_jax.data.formats.table import Unit
from automoe_jax.errors import UserError

pytest.importorskip("defusedxml")

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4">
<header creationtool="x" creationtoolversion="1" segtype="sentence" o-tmf="x" adminlang="en"
 srclang="en" datatype="plaintext"/>
<body>
<tu tuid="1"><tuv xml:lang="EN-US"><seg>Press <bpt i="1">&lt;b&gt;</bpt>Start<ept i="1">x</ept> \
&amp; wait</seg></tuv><tuv xml:lang="de"><seg>Drücken Sie <hi>Start</hi></seg></tuv></tu>
<tu tuid="2"><tuv xml:lang="en"><seg>English</seg></tuv><tuv xml:lang="fr"><seg>x</seg></tuv></tu>
<tu tuid="3"><tuv xml:lang="de-AT"><seg>Jänner</seg></tuv>
<tuv xml:lang="en-GB"><seg>January</seg></tuv></tu>
</body></tmx>
"""
XLIFF_1 = """<?xml version="1.0" encoding="UTF-8"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
<file original="a" source-language="en-US" target-language="de" datatype="plaintext"><body>
<trans-unit id="1"><source>Hello <g id="1">big</g> world<x id="2"/></source>
<target state="final">Hallo <g id="1">große</g> Welt<x id="2"/></target></trans-unit>
<group id="g"><trans-unit id="2"><source>Bye</source></trans-unit></group>
<trans-unit id="3"><source>Yes</source><target>Ja</target>
<alt-trans><source>Yes</source><target>Jawohl</target></alt-trans></trans-unit>
</body></file></xliff>
"""
XLIFF_2 = """<xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="en" \
trgLang="de"><file id="f"><unit id="1">
<segment><source>Hello <pc id="1">big</pc> world</source>
<target>Hallo <pc id="1">große</pc> Welt</target></segment>
<segment><source>Bye</source></segment>
<segment><source>Yes</source><target>Ja</target></segment></unit></file></xliff>
"""
WMT = """<?xml version='1.0' encoding='utf-8'?>
<dataset id="newstest2021">
<doc origlang="en" id="a"><src lang="en"><p><seg id="1">One &amp; two.</seg></p>
<p><seg id="2">Three.</seg></p></src>
<ref lang="de" translator="A"><p><seg id="2">Drei.</seg><seg id="1">Eins und zwei.</seg></p></ref>
<ref lang="de" translator="B"><p><seg id="1">B</seg><seg id="2">B</seg></p></ref></doc>
</dataset>
"""
BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>
"""


def test_tmx(read):
    assert read(tmx.pairs, TMX) == [
        Unit(1, "Press Start & wait", "Drücken Sie Start"),
        Unit(2, "English", ""),
        Unit(3, "January", "Jänner"),
    ]
    backwards = read(tmx.pairs, TMX, languages=("de", "en"))
    assert backwards[2] == Unit(3, "Jänner", "January")


@pytest.mark.parametrize("content", [XLIFF_1, XLIFF_2], ids=["1.2", "2.0"])
def test_xliff(read, content):
    expected = [("Hello big world", "Hallo große Welt"), ("Bye", ""), ("Yes", "Ja")]
    found = [unit[1:] for unit in read(xliff.pairs, content)]
    assert found == expected
    backwards = read(xliff.pairs, content, languages=("de", "en"))
    assert [unit[1:] for unit in backwards] == [pair[::-1] for pair in expected]


@pytest.mark.parametrize(
    ("content", "state"),
    [
        (XLIFF_1.replace('"final"', '"needs-translation"'), "needs-translation"),
        (XLIFF_1.replace('"final"', '"new"'), "new"),
        (XLIFF_2.replace("<segment>", '<segment state="initial">', 1), "initial"),
    ],
)
def test_targets_in_the_state_of_no_translation_are_blank(read, content, state):
    assert state in content
    assert [unit.target for unit in read(xliff.pairs, content)] == ["", "", "Ja"]


def test_one_language_on_both_sides(read):
    with pytest.raises(UserError, match=r"target_language are both 'en'; name two of the lang"):
        read(tmx.pairs, TMX, languages=("en", "en"))


def test_the_same_as_translate_toolkit(read):
    from_xliff = pytest.importorskip("translate.storage.xliff").xlifffile
    from_xliff_2 = pytest.importorskip("translate.storage.xliff2").Xliff2File
    for content, kind in ((XLIFF_1, from_xliff), (XLIFF_2, from_xliff_2)):
        store = kind()
        store.parse(content.encode())
        theirs = [(str(unit.source), str(unit.target or "")) for unit in store.units]
        assert [unit[1:] for unit in read(xliff.pairs, content)] == theirs


def test_test_sets_of_wmt(read):
    expected = [Unit(1, "One & two.", "Eins und zwei."), Unit(2, "Three.", "Drei.")]
    assert read(wmt.pairs, WMT) == expected
    sgml = """<srcset setid="newstest2014" srclang="any">
<doc sysid="ref" docid="a" genre="news" origlang="de">
<p>
<seg id="1">R&D costs 3 < 5 &amp; more</seg>
<seg id="2"> second
line </seg></p></doc></srcset>"""
    assert read(wmt.sgml, sgml) == [(1, "R&D costs 3 < 5 & more"), (2, " second\nline ")]


def test_other_encodings_are_declared(read):
    latin = TMX.replace("UTF-8", "ISO-8859-1").encode("latin-1")
    assert read(tmx.pairs, latin) == read(tmx.pairs, TMX)
    assert read(tmx.pairs, TMX.replace("UTF-8", "UTF-16").encode("utf-16")) == read(tmx.pairs, TMX)


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        (tmx.pairs, TMX[:500], r"a, line 8 is not well-formed XML \(.*, column \d+\); correct"),
        (tmx.pairs, TMX.replace("</seg></tuv></tu>", "</tuv></tu>"), r"a, line 7 .*mismatched tag"),
        (tmx.pairs, "", r"a is empty; config.data.path"),
        (tmx.pairs, TMX[:40], r"a, line 2 is not well-formed XML \(.*, column \d+\)"),
        (tmx.pairs, "<!DOCTYPE HTML><html><p>404</html>", r"a is a web page; download the file"),
        (
            tmx.pairs,
            re.sub(r'xml:lang="[\w-]+"', "", TMX),
            r"no unit with text in 'en' and in 'de'; it names no language of a text",
        ),
        (tmx.pairs, TMX.encode("latin-1"), r"a, line 7 is not well-formed XML \(not well-formed"),
        (tmx.pairs, TMX.replace("UTF-8", "Shift_JIS"), r"cannot be read as XML \(.*; convert it"),
        (tmx.pairs, XLIFF_1, r"a has the root element <xliff> and not <tmx>"),
        (tmx.pairs, BOMB + "<tmx>&b;</tmx>", r"a declares entities .*\(EntitiesForbidden\)"),
        (
            xliff.pairs,
            '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><xliff>&a;</xliff>',
            r"a declares entities or refers to other files",
        ),
        (
            tmx.pairs,
            TMX.replace('"de"', '"nl"').replace("de-AT", "nl"),
            r"a has no unit with text in 'en' and in 'de'; its languages are 'EN-US', 'en', 'en-GB'"
            r", 'fr', 'nl': set config.data.source_language",
        ),
        (
            xliff.pairs,
            XLIFF_2.replace('srcLang="en"', 'srcLang="fr"'),
            r"no unit with text in 'en' and in 'de'; its languages are 'de', 'fr'",
        ),
        (wmt.pairs, WMT.replace('"de"', '"cs"'), r"its languages are 'cs', 'en'"),
        (wmt.sgml, "<seg id='1'>a</seg>\n<seg id='2'>b\n", r"a ends in segment 2, before </seg>"),
        (wmt.sgml, "plain text\n", r"a has no <seg>"),
    ],
)
def test_mistakes_name_file_and_place(read, reader, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(reader, content)
    assert "\n" not in str(caught.value)


def test_units_that_were_read_take_no_memory(read):
    unit = "".join(TMX.splitlines(keepends=True)[6:7])
    sizes = []

    def watched(file, wanted):
        for _, ancestors in xml.elements(file, "tmx", ("tu",)):
            sizes.append(len(ancestors[-1]))
            yield wanted

    read(watched, TMX.replace(unit, unit * 2000))
    assert len(sizes) == 2002
    assert max(sizes) < 500  # the elements of one chunk that the parser was fed
