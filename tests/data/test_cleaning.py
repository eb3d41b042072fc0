"""Cleaning of lines and the key of near-duplicates, in many scripts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automoe_jax.data.cleaning import clean_line, decoded, duplicate_key

PLAIN = "Anna finds the dog near a tree often."
# Characters that interact: joiners, selectors, marks, blanks, what composes to ASCII.
TRICKY = (
    "aAe.\u212a\u037e\u200c\u200d\u200b\ufe0f\u0301\u094d\u0915\u3164\u00a0\u2581\u034f\u0130"
    "\u1100\u1161\u0307\ufeff\U0001f600\U000e0041\n"
)


@pytest.mark.parametrize(
    "line",
    [
        "\ufeffAnna finds the dog near a tree often.",
        "Anna finds the\u00a0dog near a tree often.",
        "Anna finds the\u202fdog\u3000near a\x85tree often.",
        "Anna finds the\tdog \u2028near\u2029a tree often.\r",
        "Anna\x00 finds\x0bthe\x1fdog near a tree often.",
        "Anna finds the\u200b dog near a tree of\u00adten.",
        "\u202aAnna finds the dog near a tree often.\u202c\u200f",
        "\u200dAnna finds the dog near a\u200c \ufe0ftree \u2066often.\u2069",
        "Anna finds the\U000e0041\U000e007f dog near\u2060 a tree often.",
        "Anna finds\u3164the\u2800dog near a tree often.\udcff",
        "Anna\u2581finds\u2581the dog near a tree often.\ufffe",
    ],
    ids=ascii,
)
def test_what_nobody_sees_is_removed(line):
    assert clean_line(line) == PLAIN


@pytest.mark.parametrize(
    "line",
    ["", "   ", "\u00a0", "\u200b", "\ufeff", "\u200e\u2060 \u3000", "\ufe0f", "\u3164", "▁"],
)
def test_lines_without_anything_to_see_are_empty(line):
    assert clean_line(line) == ""


@pytest.mark.parametrize(
    "line",
    [
        "می‌خواهم",  # Persian, with a non-joiner
        "ക്ഷ ന്\u200d",  # Malayalam, whose old chillus end in a joiner
        "क्\u200dष",
        "👩\u200d💻 1\ufe0f\u20e3 ❤\ufe0f",
        "ᠨᠢᠭᠡ\u180eᠨ",
        "مَرْحَبًا",
    ],
)
def test_what_shapes_a_script_remains(line):
    assert clean_line(line) == line


@given(st.one_of(st.text(), st.text(alphabet=TRICKY, max_size=8)))
def test_a_clean_line_does_not_change(line):
    clean = clean_line(line)
    assert clean_line(clean) == clean
    assert len(clean.splitlines()) == bool(clean)
    clean.encode()


HINDI = [consonant + vowel for consonant in "कखगन" for vowel in "ीेाोूिैौ"]


@pytest.mark.parametrize(
    "words",
    [
        HINDI,
        ["กิน", "กัน", "กุน", "กาน", "ก้าน"],  # Thai
        ["မိ", "မီ", "မု", "မူ", "မေ"],  # Burmese
        ["கி", "கீ", "கு", "கூ", "கெ"],  # Tamil
        ["ខិ", "ខី", "ខុ", "ខូ"],  # Khmer
        ["བོད", "བདེ", "བུད"],  # Tibetan
        ["か", "が", "ガ"],
        ["今天", "明天", "昨天"],
        ["résumé", "resume"],
    ],
)
def test_words_that_differ_have_different_keys(words):
    assert len(set(map(duplicate_key, words))) == len(words)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("今天很好。", "今天 很好！"),
        ("第３章", "第7章"),
        ("कमरा १२।", "कमरा 45"),
        ("مَرْحَبًا", "مرحبا"),  # Arabic with and without vowels
        ("שָׁלוֹם", "שלום"),  # Hebrew with and without points
        ("ISTANBUL", "istanbul"),
        ("İstanbul", "istanbul"),
        ("ΰ", "Ϋ́"),
        ("STRASSE", "straße"),
        ("ข้าว ๑๒", "ข้าว๓๔"),
        ("❤\ufe0f love", "love"),
        ("می‌خواهم", "میخواهم"),
    ],
)
def test_near_duplicates_share_a_key_in_every_script(one, other):
    assert duplicate_key(one) == duplicate_key(other)


def test_lines_of_symbols_only_have_keys_of_their_own():
    lines = ["...", "?!", "😀", "😡", "⠓⠑⠇", "→"]
    assert len(set(map(duplicate_key, lines))) == len(lines)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"Gr\xfc\xdfe", r"byte 0xfc at column 3"),
        ("Anna finds".encode("utf-16-le"), "many NUL bytes, as in UTF-16"),
        ("Anna finds".encode("utf-32-be"), "many NUL bytes, as in UTF-16"),
        ("Это число".encode("utf-16-le"), "many control characters, as in UTF-16"),
        ("猫".encode("utf-16"), "byte 0xff at column 1, as in UTF-16"),
    ],
)
def test_other_encodings_are_named(line, reason):
    with pytest.raises(ValueError, match=reason):
        decoded(line)


def test_single_nul_bytes_are_text():
    assert decoded(b"a lone \0 byte in a line") == "a lone \0 byte in a line"


def test_random_characters_of_all_of_unicode_become_clean():
    rng = random.Random(0)
    for _ in range(3000):
        line = "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(8)))
        clean = clean_line(line)
        assert clean_line(clean) == clean
        duplicate_key(clean)
