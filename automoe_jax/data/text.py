"""Parallel text from the user's files: two files in which line i of one translates line i of the
other, or one TSV.

For classification the target is the name of the sentence's class. UTF-8, plain or compressed by
gzip. A mistake in a file is one sentence that names the file and the line.
"""

import gzip
import pathlib
import zlib

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus
from automoe_jax.data.cleaning import clean_line, decoded
from automoe_jax.errors import UserError

_SKIP = "remove that pair from both sides, or set config.data.skip_blank=True"
_GZIP = b"\x1f\x8b"
_OTHER_ARCHIVES = {
    b"\xfd7zXZ\x00": "xz",
    b"(\xb5/\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of `config.path` (and `config.target_path`), held-out pairs drawn by
    `config.seed`; writes nothing.
    """
    del cache_dir
    counts: dict[str, int] = {}
    return _corpus(_read(config, counts), counts, config)


def load_labelled(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The same for sentences and their classes."""
    del cache_dir
    counts: dict[str, int] = {}
    pairs = _read(config, counts)
    return _corpus(corpus.Labelled(pairs.source, pairs.target), counts, config)


def _read(config: DataConfig, counts: dict[str, int]) -> corpus.Pairs:
    """The pairs of the configured files; notes in `counts` the lines read and skipped."""
    if not config.skip_blank:
        pairs = read_pairs(config.path, config.target_path)
        counts["lines read"] = len(pairs)
        return pairs
    columns = _columns(config.path, config.target_path, skip_blank=True)
    counts["lines read"] = len(columns)
    name = "pairs with a blank side removed"
    return corpus.filtered(columns, counts, name, lambda source, target: bool(source and target))


def _corpus(pairs: corpus.Pairs, counts: dict[str, int], config: DataConfig) -> corpus.Corpus:
    unique = pairs.take(corpus.unique_indices(pairs))
    counts[corpus.DUPLICATES] = removed = len(pairs) - len(unique)
    train, validation, test, overlapping = corpus.split(
        unique, range(len(unique)), config, f"config.data.path={config.path!r}", removed
    )
    counts |= overlapping
    return corpus.finished("text", corpus.limited(train, config), validation, test, counts)


def read_pairs(path: str, target_path: str = "") -> corpus.Pairs:
    """The cleaned lines of two aligned files, or of a TSV (source TAB target) when there is no
    `target_path`.

    Raises `UserError` for a missing file, unequal line counts, an empty line, a line that is not
    UTF-8 and a TSV line without exactly two columns.
    """
    pairs = _columns(path, target_path, skip_blank=False)
    if target_path:
        _check_no_blank(pairs.source, path, "is empty")
        _check_no_blank(pairs.target, target_path, "is empty")
    else:
        _check_no_blank(pairs.source, path, "has no source")
        _check_no_blank(pairs.target, path, "has no target")
    return pairs


def _columns(path: str, target_path: str, *, skip_blank: bool) -> corpus.Pairs:
    """`read_pairs`, blank sides included; with `skip_blank` a blank line of a TSV has two."""
    if not target_path:
        return _read_tsv(path, skip_blank)
    source, target = read_lines(path), read_lines(target_path)
    if len(source) != len(target):
        raise UserError(
            f"{path} has {len(source)} lines and {target_path} has {len(target)}; line i of one"
            " must translate line i of the other, so give two files of equal length"
        )
    return corpus.Pairs(tuple(map(clean_line, source)), tuple(map(clean_line, target)))


def read_lines(path: str) -> list[str]:
    """The lines of a UTF-8 file, unpacked when it is compressed by gzip.

    Only a newline ends a line; a carriage return does in a file without newlines.
    """
    content = _content(path)
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [_decoded(line, path, number) for number, line in enumerate(lines, start=1)]


def _content(path: str) -> bytes:
    rule = "config.data.path and config.data.target_path must name files of parallel text"
    try:
        content = pathlib.Path(path).expanduser().read_bytes()
        packed = str(path).endswith(".gz") or content.startswith(_GZIP)
        content = gzip.decompress(content) if packed else content
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {rule}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; {rule}") from None
    except PermissionError:
        raise UserError(
            f"{path} cannot be read: permission denied; change its permissions or name another file"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is not a complete gzip file ({error}); compress it again or give it a name"
            " without .gz"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {rule}") from None
    except (ValueError, RuntimeError) as error:  # a NUL in the path, or ~ of an unknown user
        raise UserError(f"{path!r} is no path ({error}); {rule}") from None
    for magic, name in _OTHER_ARCHIVES.items():
        if content.startswith(magic):
            raise UserError(
                f"{path} is compressed with {name}; unpack it, or compress it with gzip"
            )
    content = content.removeprefix(_BYTE_ORDER_MARK)
    if not content.strip():
        raise UserError(f"{path} is empty; {rule}")
    return content


def _decoded(line: bytes, path: str, number: int) -> str:
    try:
        return decoded(line)
    except ValueError as error:
        raise UserError(
            f"{path}, line {number} is not UTF-8 ({error}); convert the file to UTF-8, for example"
            " with iconv"
        ) from None


def _read_tsv(path: str, skip_blank: bool) -> corpus.Pairs:
    source, target = [], []
    for number, line in enumerate(read_lines(path), start=1):
        blank = not clean_line(line)
        columns = ["", ""] if blank and skip_blank else line.split("\t")
        if len(columns) != 2:
            found = f"{len(columns)} column{'s' if len(columns) > 1 else ''}"
            way_out = f"; it is blank: {_SKIP}" if blank else ""
            raise UserError(
                f"{path}, line {number} has {found}; each line must hold the source, one TAB and"
                f" the target (or name the target file in config.data.target_path){way_out}"
            )
        source.append(clean_line(columns[0]))
        target.append(clean_line(columns[1]))
    return corpus.Pairs(tuple(source), tuple(target))


def _check_no_blank(lines: tuple[str, ...], path: str, fault: str) -> None:
    if "" in lines:
        number = lines.index("") + 1
        raise UserError(f"{path}, line {number} {fault}; every line must hold text, so {_SKIP}")
