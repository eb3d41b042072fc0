"""Your own parallel text: two files with line i of one translated by line i of the other, or one
TSV of both.

For classification the target is the name of the sentence's class. Plain or .gz, UTF-8. A mistake in
a file is one sentence that names the file and the line.
"""

import gzip
import pathlib
import zlib

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus
from automoe_jax.errors import UserError


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of `config.path` (and `config.target_path`), held-out pairs drawn by
    `config.seed`; writes nothing.
    """
    del cache_dir
    return _corpus(read_pairs(config.path, config.target_path), config)


def load_labelled(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The same of sentences and their classes."""
    del cache_dir
    pairs = read_pairs(config.path, config.target_path)
    return _corpus(corpus.Labelled(pairs.source, pairs.target), config)


def _corpus(pairs: corpus.Pairs, config: DataConfig) -> corpus.Corpus:
    counts = {"lines read": len(pairs)}
    unique = pairs.take(corpus.unique_indices(pairs))
    counts["duplicates removed"] = len(pairs) - len(unique)
    names = f"config.data.path={config.path!r}"
    train, validation, test, overlapping = corpus.split(unique, range(len(unique)), config, names)
    counts["near-duplicates of held-out lines removed"] = overlapping
    return corpus.finished("text", corpus.limited(train, config), validation, test, counts)


def read_pairs(path: str, target_path: str = "") -> corpus.Pairs:
    """The cleaned lines of two aligned files, or of a TSV (source TAB target) when there is no
    `target_path`.

    Raises `UserError` for a missing file, unequal line counts, an empty line, a line that is not
    UTF-8 and a TSV line without exactly two columns.
    """
    if not target_path:
        return _read_tsv(path)
    source, target = read_lines(path), read_lines(target_path)
    if len(source) != len(target):
        raise UserError(
            f"{path} has {len(source)} lines and {target_path} has {len(target)}; line i of one"
            " must translate line i of the other, so give two files of equal length"
        )
    return corpus.Pairs(_cleaned(source, path), _cleaned(target, target_path))


def read_lines(path: str) -> list[str]:
    """The lines of a UTF-8 file, unpacked when its name ends in .gz; only a newline ends a line."""
    lines = _content(path).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [_decoded(line, path, number) for number, line in enumerate(lines, start=1)]


def _content(path: str) -> bytes:
    try:
        content = pathlib.Path(path).expanduser().read_bytes()
        content = gzip.decompress(content) if str(path).endswith(".gz") else content
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; config.data.path and config.data.target_path must name files"
            " of parallel text"
        ) from None
    except IsADirectoryError:
        raise UserError(
            f"{path} is a folder; config.data.path and config.data.target_path must name files of"
            " parallel text"
        ) from None
    except PermissionError:
        raise UserError(
            f"{path} may not be read by you; change its permissions or name another file"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is not a complete gzip file ({error}); compress it again or give it a name"
            " without .gz"
        ) from None
    if not content.strip():
        raise UserError(
            f"{path} is empty; config.data.path and config.data.target_path must name files of"
            " parallel text"
        )
    return content.removeprefix(b"\xef\xbb\xbf")


def _decoded(line: bytes, path: str, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        raise UserError(
            f"{path}, line {number} is not UTF-8 ({byte}); convert the file to UTF-8, for example"
            " with iconv"
        ) from None


def _read_tsv(path: str) -> corpus.Pairs:
    source, target = [], []
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.rstrip("\r").split("\t")
        if len(columns) != 2:
            found = f"{len(columns)} column{'s' if len(columns) > 1 else ''}"
            raise UserError(
                f"{path}, line {number} has {found}; each line must hold the source, one TAB and"
                " the target (or name the target file in config.data.target_path)"
            )
        source.append(columns[0])
        target.append(columns[1])
    return corpus.Pairs(
        _cleaned(source, path, "has no source"), _cleaned(target, path, "has no target")
    )


def _cleaned(lines: list[str], path: str, fault: str = "is empty") -> tuple[str, ...]:
    cleaned = tuple(map(corpus.clean_line, lines))
    if "" in cleaned:
        number = cleaned.index("") + 1
        raise UserError(
            f"{path}, line {number} {fault}; every line must hold text, so remove that pair from"
            " both sides"
        )
    return cleaned
