"""Files of text: the names that a setting matches, decompression by content, and lines of text in
a known encoding.
"""

import bz2
import contextlib
import dataclasses
import glob
import gzip
import importlib
import io
import lzma
import pathlib
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from automoe_jax.data.cleaning import clean_line, decoded
from automoe_jax.data.formats import encodings
from automoe_jax.errors import UserError

RULE = "config.data.path and config.data.target_path must name files of parallel text"
_PATTERN = re.compile(r"[*?\[]")
_HEAD_BYTES = 512
_SAMPLE_BYTES = 20_000  # for the detection of an encoding
# Zstandard's frames, also skippable ones, with which parallel compressors begin.
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
_UNPACK = "unpack it and name the files in it (gzip, bzip2, xz and zstd are read as they are)"
_SAVE = "save its text as a plain text file"
# What is often named instead of a file of text: first bytes, and the way out.
_NO_TEXT = {
    "a zip archive": (rb"PK(\x03\x04|\x05\x06)", _UNPACK),
    "a 7z archive": (rb"7z\xbc\xaf\x27\x1c", _UNPACK),
    "a rar archive": (rb"Rar!\x1a\x07", _UNPACK),
    "a tar archive": (rb"(?s:.{257})ustar", _UNPACK),
    "a PDF document": (rb"%PDF-", _SAVE),
    "an RTF document": (rb"\{\\rtf", _SAVE),
    "a document of an old Office": (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _SAVE),
    "a web page": (rb"\s*(?i:<!doctype html|<html)", "download the file itself"),
    "a pointer of Git LFS": (
        rb"version https://git-lfs\.github\.com/",
        "get the file itself with git lfs pull",
    ),
}
_COMPRESSIONS: Mapping[str, tuple[re.Pattern[bytes], Callable[[IO[bytes]], Any]]] = {
    "gzip": (re.compile(rb"\x1f\x8b\x08"), lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
    "bzip2": (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", re.DOTALL), bz2.BZ2File),
    "xz": (re.compile(rb"\xfd7zXZ\x00"), lzma.LZMAFile),
    "zstd": (_ZSTD, lambda file: _zstd().ZstdFile(file)),
}
_DAMAGED: tuple[type[Exception], ...] = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file of text, plain or compressed."""

    path: str  # as messages name it
    encoding: str = ""  # empty: UTF-8, or what a byte-order mark names
    setting: str = "config.data.encoding"  # that sets the encoding
    notes: list[str] = dataclasses.field(default_factory=list)  # written by readers, for the user

    @contextlib.contextmanager
    def opened(self) -> Iterator[io.BufferedReader]:
        """The content, decompressed; raises `UserError` for a file that cannot be read, also by
        the block.
        """
        _check_path(self.path)
        packed = ""
        try:
            with contextlib.ExitStack() as stack:
                path = pathlib.Path(self.path).expanduser()
                stream = stack.enter_context(path.open("rb"))
                while name := _compression(_head(stream)):
                    packed = name
                    opened = _COMPRESSIONS[name][1](stream)
                    stream = stack.enter_context(io.BufferedReader(opened))
                self._check(_head(stream))
                yield stream
        except UserError:
            raise
        except FileNotFoundError:
            raise UserError(f"{self.path} does not exist; {RULE}") from None
        except IsADirectoryError:
            raise UserError(f"{self.path} is a folder; {RULE}") from None
        except PermissionError:
            raise UserError(
                f"{self.path} cannot be read: permission denied; change its permissions or name"
                " another file"
            ) from None
        except (*_DAMAGED, *_zstd_errors()) as error:
            raise UserError(self._damaged(packed, error)) from None
        except OSError as error:
            if error.errno is None:  # of bz2
                raise UserError(self._damaged(packed, error)) from None
            raise UserError(f"{self.path} cannot be read ({error.strerror}); {RULE}") from None

    def lines(self) -> Iterator[str]:
        """The lines, without their breaks.

        Only a newline ends a line; a carriage return does in a file without newlines. Raises
        `UserError` for a file without text, and for a line that is not in the encoding.
        """
        found = False
        with self.opened() as stream:
            encoding = encodings.of_mark(_head(stream)) or self.encoding
            if encoding:
                self._check_known(encoding)
                self.note(encoding)
            lines = self._decoded(stream, encoding) if encoding else self._utf8(stream)
            for line in lines:
                found = found or bool(clean_line(line))
                yield line
        if not found:
            raise UserError(f"{self.path} is empty; {RULE}")

    def head(self) -> bytes:
        """The first bytes of the content."""
        with self.opened() as stream:
            return _head(stream)

    def content(self) -> bytes:
        """The whole content, for formats of small files."""
        with self.opened() as stream:
            return stream.read()

    def note(self, what: str) -> None:
        """Writes down for the user how this file is read."""
        self.notes.append(f"{self.path}: {what}")

    def _damaged(self, packed: str, error: Exception) -> str:
        return (
            f"{self.path} is not a complete {packed} file ({error}); compress or download it again"
        )

    def _check(self, head: bytes) -> None:
        for name, (sign, way_out) in _NO_TEXT.items():
            if re.match(sign, head):
                raise UserError(f"{self.path} is {name}; {way_out}")

    def _check_known(self, encoding: str) -> None:
        if not encodings.is_known(encoding):
            raise UserError(
                f"{self.setting}={encoding!r} {encodings.RULE}{encodings.suggested(encoding)}"
            )

    def _utf8(self, stream: io.BufferedReader) -> Iterator[str]:
        for number, line in enumerate(_unbroken(stream, b"\n", b"\r"), start=1):
            try:
                yield decoded(line.removeprefix(encodings.UTF8_MARK) if number == 1 else line)
            except ValueError as error:
                sample = line + b"\n" + stream.read(_SAMPLE_BYTES)
                _exhaust(stream)  # a damaged file is not decompressed to the end
                guesses = encodings.wide(self.head())
                if not guesses and 0 in sample:
                    raise UserError(f"{self.path} holds NUL bytes and is no text; {RULE}") from None
                choice = self._choice(guesses or encodings.guesses(sample, line))
                raise UserError(
                    f"{self.path}, line {number} is not UTF-8 ({error}); {choice}"
                ) from None

    def _choice(self, guesses: Mapping[str, str]) -> str:
        convert = "convert the file to UTF-8, for example with iconv"
        if not guesses:
            return f"set {self.setting} to its encoding, or {convert}"
        listed = ", ".join(f"{name} ({text!r})" for name, text in guesses.items())
        first = next(iter(guesses))
        return f"it may be {listed}: set {self.setting}={first!r} if that is right, or {convert}"

    def _decoded(self, stream: io.BufferedReader, encoding: str) -> Iterator[str]:
        number = 0
        text = io.TextIOWrapper(stream, encoding, newline="\n")
        try:
            for line in _unbroken(text, "\n", "\r"):
                number += 1
                yield line.removeprefix("\ufeff") if number == 1 else line
        except UnicodeError as error:
            place = ""
            if isinstance(error, UnicodeDecodeError):
                before = error.object[: error.start].decode(encoding, "replace")
                number += 1 + before.count("\n")
                place = f" (byte 0x{error.object[error.start]:02x})"
            raise UserError(
                f"{self.path}, line {max(number, 1)} is not {encoding}{place}; set"
                f" {self.setting} to the encoding of this file, or convert it to UTF-8"
            ) from None
        finally:
            with contextlib.suppress(ValueError):
                text.detach()


def matches(setting: str) -> list[str]:
    """The files that a setting names: one file, patterns such as `*.en` (in the order of their
    names) or several of both between commas. What matches nothing is left out.
    """
    if not setting or _is_file(setting):
        return [setting] if setting else []
    found = []
    for part in (part.strip() for part in setting.split(",")):
        if not part or _is_file(part) or not _PATTERN.search(part):
            found += [part] if part else []
            continue
        pattern = str(pathlib.Path(part).expanduser())
        found += [name for name in sorted(glob.glob(pattern, recursive=True)) if _is_file(name)]
    return found


def optional(module: str, what: str, package: str, extra: str = "formats") -> Any:
    """A module that not every installation has; raises `UserError` with the pip command."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f'{what} needs {package}, which is not installed: pip install "automoe_jax[{extra}]"'
        ) from None


def _zstd() -> Any:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return optional(name, "a file compressed with zstd", name)


def _zstd_errors() -> tuple[type[Exception], ...]:
    """The exceptions of the reader of Zstandard, if it was needed."""
    names = ("compression.zstd", "backports.zstd")
    return tuple(sys.modules[name].ZstdError for name in names if name in sys.modules)


def _compression(head: bytes) -> str:
    found = (name for name, (sign, _) in _COMPRESSIONS.items() if sign.match(head))
    return next(found, "")


def _head(stream: io.BufferedReader) -> bytes:
    return stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]


def _exhaust(stream: IO[bytes]) -> None:
    while stream.read(_SAMPLE_BYTES):
        pass


def _check_path(path: str) -> None:
    try:
        pathlib.Path(path).expanduser().is_file()
        if "\0" in path:
            raise ValueError("it holds a NUL")
    except (ValueError, RuntimeError) as error:  # a NUL, or ~ of an unknown user
        raise UserError(f"{path!r} is no path ({error}); {RULE}") from None


def _is_file(path: str) -> bool:
    try:
        return pathlib.Path(path).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _unbroken(lines: Any, newline: Any, carriage_return: Any) -> Iterator[Any]:
    """Lines (all bytes or all text) without their breaks."""
    first = next(iter(lines), newline[:0])
    if newline not in first:  # in the whole file
        parts = first.split(carriage_return)
        yield from parts if parts[-1] else parts[:-1]
        return
    yield first.removesuffix(newline)
    for line in lines:
        yield line.removesuffix(newline)
