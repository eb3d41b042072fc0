"""Files of text: compression and encodings, found in the content and named in messages."""

import bz2
import gzip
import importlib
import lzma
import sys

import pytest

from automoe_jax.data.formats.files import TextFile, matches
from automoe_jax.errors import UserError

LINES = ["Grüße aus München", "second\u2028line", "drei"]
CONTENT = "".join(f"{line}\n" for line in LINES).encode()


def zstd(content):
    """As the command zstd, with a checksum."""
    module = pytest.importorskip(
        "backports.zstd" if sys.version_info < (3, 14) else "compression.zstd"
    )
    return module.compress(content, options={module.CompressionParameter.checksum_flag: 1})


COMPRESSIONS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


def read(path, content, **settings):
    path.write_bytes(content)
    return list(TextFile(str(path), **settings).lines())


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compression_is_found_in_the_content(tmp_path, name):
    compressed = COMPRESSIONS[name]
    assert read(tmp_path / "a.txt", compressed(CONTENT)) == LINES
    assert read(tmp_path / "b.zip", compressed(CONTENT) + compressed(CONTENT)) == LINES * 2
    assert read(tmp_path / "a.gz.bz2", gzip.compress(compressed(CONTENT))) == LINES


def test_the_ending_of_a_name_does_not_decide(tmp_path):
    assert read(tmp_path / "a.gz", CONTENT) == LINES
    assert read(tmp_path / "BZhilfe.txt", b"BZh1 is text\n") == ["BZh1 is text"]


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_cut_short_and_damaged(tmp_path, name):
    packed = COMPRESSIONS[name](CONTENT * 3000)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    for content in (packed[:-20], packed[: len(packed) // 2], bytes(damaged)):
        with pytest.raises(UserError, match=rf"a is not a complete {name} file \(.*\); compress"):
            read(tmp_path / "a", content)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"PK\x03\x04rest", "zip"),
        (b"7z\xbc\xaf\x27\x1c\0", "7z"),
        (gzip.compress(b"a.txt".ljust(257, b"\0") + b"ustar\x0000"), "tar"),
    ],
    ids=["zip", "7z", "tar"],  # the bytes of gzip hold the time
)
def test_archives_are_named(tmp_path, content, name):
    with pytest.raises(UserError, match=f"a is a {name} archive; unpack it"):
        read(tmp_path / "a", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7\n", "a is a PDF document; save its text"),
        (b"{\\rtf1\\ansi x}", "a is an RTF document; save its text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "a is a document of an old Office"),
        (b"\n<!doctype HTML>\n<html>", "a is a web page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "a is a pointer of Git LFS; get"),
        (b"PK\x05\x06" + bytes(18), "a is a zip archive; unpack it"),
        (b"SQLite format 3\0" + bytes(300), "a holds NUL bytes and is no text; config.data.path"),
        (bytes(1000), "a holds NUL bytes and is no text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "a holds NUL bytes and is no text"),
    ],
    ids=["pdf", "rtf", "office", "web", "lfs", "zip", "sqlite", "nul", "png"],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a", content)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "line",
    [
        "Это число",
        "我们在这里学习语言，也学习数学。",
        "यह एक संख्या है",
        "これは数です",
        "\U0001f600 ok",
    ],
)
def test_wide_encodings_of_other_scripts_are_suggested(tmp_path, encoding, line):
    """Their bytes can be valid UTF-8: letters and control characters."""
    content = f"{line}\n".encode(encoding) * 60
    with pytest.raises(UserError, match=rf"config.data.encoding='{encoding}' if that is right"):
        read(tmp_path / "a", content)
    assert read(tmp_path / "a", content, encoding=encoding) == [line] * 60


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(tmp_path, encoding):
    path, notes = tmp_path / "a", []
    path.write_bytes(CONTENT.decode().encode(encoding))
    assert list(TextFile(str(path), notes=notes).lines()) == LINES
    assert notes == ([] if encoding == "utf-8-sig" else [f"{path}: {encoding}"])
    old_mac = "one\rtwo\r".encode(encoding)
    assert read(tmp_path / "b", old_mac) == ["one", "two"]


@pytest.mark.parametrize(
    "encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp1252", "cp1251"]
)
def test_other_encodings_are_suggested_and_never_chosen(tmp_path, encoding):
    lines = LINES[:1]
    if encoding == "cp1251":
        lines = ["Привет, как дела?", "Сегодня очень хорошая погода.", "Мы идём гулять в парк."]
    content = "".join(f"{line}\n" for line in lines * 3).encode(encoding)
    with pytest.raises(UserError, match=r"a, line 1 is not UTF-8 \(.*\); it may be ") as caught:
        read(tmp_path / "a", content)
    guess = str(caught.value).split("config.data.encoding=")[1].split("'")[1]
    assert "set config.data.encoding=" in str(caught.value)
    assert read(tmp_path / "a", content, encoding=guess) == lines * 3
    assert read(tmp_path / "a", content, encoding=encoding) == lines * 3


def test_the_place_of_an_invalid_byte(tmp_path):
    with pytest.raises(UserError, match=r"a, line 3 is not UTF-8 \(byte 0xff at column 2\)"):
        read(tmp_path / "a", b"one\ntwo\nx\xff\n")
    content = b"one\n" * 9000 + b"Gr\x81n\n" + b"two\n" * 9000
    with pytest.raises(
        UserError,
        match=r"a, line 9001 is not cp1252 \(byte 0x81\); set config.data.target_encoding to",
    ):
        read(tmp_path / "a", content, encoding="cp1252", setting="config.data.target_encoding")
    with pytest.raises(UserError, match=r"a, line 1 is not utf-16( \(byte 0x70\))?; set"):
        read(tmp_path / "a", b"plain text without a mark\n", encoding="utf-16")
    odd = "one\ntwo\n".encode("utf-16") + b"x"
    with pytest.raises(UserError, match=r"a, line 3 is not utf-16"):
        read(tmp_path / "a", odd)


@pytest.mark.parametrize("name", ["latin-l", "base64", "idna", "no such\0"])
def test_unknown_encodings(tmp_path, name):
    with pytest.raises(UserError, match=r"config.data.encoding=.* is no encoding of") as caught:
        read(tmp_path / "a", CONTENT, encoding=name)
    assert f"did you mean {name!r}" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b"")],
    ids=["nothing", "blank", "mark", "gzip"],
)
def test_empty_files(tmp_path, content):
    with pytest.raises(UserError, match=r"a is empty; config.data.path"):
        read(tmp_path / "a", content)


def test_a_missing_package_is_a_pip_command(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    packed = zstd(CONTENT)
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r'needs .*zstd, .*: pip install "automoe_jax\[formats\]"'):
        read(tmp_path / "a", packed)


def test_matches(tmp_path):
    for name in ("b.en", "a.en", "[1].en", "c.de"):
        (tmp_path / name).write_text("x")
    assert matches("") == []
    assert matches(f"{tmp_path}/*.de") == [f"{tmp_path}/c.de"]
    assert matches(f"{tmp_path}/[1].en") == [f"{tmp_path}/[1].en"]
    assert matches(f"{tmp_path}/**/?.en") == [f"{tmp_path}/a.en", f"{tmp_path}/b.en"]
    assert matches(f"{tmp_path}/c.de, nowhere") == [f"{tmp_path}/c.de", "nowhere"]
    assert matches(f"{tmp_path}/*.xml") == []
