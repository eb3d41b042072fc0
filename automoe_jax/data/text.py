"""Parallel text from the user's files, in any format of `formats.table`: files with both sides, or
two files in which line i of one translates line i of the other; several of them by patterns.

For classification the target is the name of the sentence's class. A mistake in a file is one
sentence that names the file and the line.
"""

import array
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus, rules
from automoe_jax.data.cleaning import clean_line
from automoe_jax.data.formats.files import COMPRESSED_ENDINGS, RULE, TextFile, matches
from automoe_jax.data.formats.table import FORMATS, ONE_FILE, TWO_FILES, Format, Unit, Wanted
from automoe_jax.errors import UserError

_SKIP = "remove that pair from both sides, or set config.data.skip_blank=True"


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of `config.path` (and `config.target_path`), held-out pairs drawn by
    `config.seed`; writes nothing.
    """
    del cache_dir
    return _corpus(read(config), corpus.Pairs, config)


def load_labelled(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The same for sentences and their classes."""
    del cache_dir
    return _corpus(read(config, labelled=True), corpus.Labelled, config)


@dataclasses.dataclass
class Parallel:
    """What the files hold, cleaned; sides may be blank."""

    source: list[str] = dataclasses.field(default_factory=list)
    target: list[str] = dataclasses.field(default_factory=list)
    # of each pair the number of its line, row or unit; of each file its format's word for that, and
    # the index of its first pair
    numbers: "array.array[int]" = dataclasses.field(default_factory=lambda: array.array("q"))
    files: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    has_blank: bool = False  # blank sides are left out
    notes: list[str] = dataclasses.field(default_factory=list)

    def place(self, i: int) -> str:
        """The file and the line of pair `i`."""
        path, unit, _ = next(file for file in reversed(self.files) if file[2] <= i)
        return f"{path}, {unit} {self.numbers[i]}"


def read(config: DataConfig, *, labelled: bool = False) -> Parallel:
    """The cleaned pairs of the configured files, as `read_into` adds them."""
    found = Parallel()
    read_into(found, config, labelled=labelled)
    return found


def read_into(found: Parallel, config: DataConfig, *, labelled: bool = False) -> None:
    """Adds the cleaned pairs of the configured files. Only with `config.skip_blank`, or in formats
    in which units without a translation are usual, has one a blank side.

    Raises `UserError` for a missing file, unequal line counts, an empty line, a line that is not
    in the encoding and for what a format does not allow.
    """
    wanted = Wanted(
        languages=(config.source_language, config.target_language),
        columns=(config.source_column, config.target_column),
        delimiter=config.delimiter,
        labelled=labelled,
        skip_blank=config.skip_blank,
    )
    sources = _named(config.path, "path")
    if not config.target_path:
        for path in sources:
            _read_file(TextFile(path, config.encoding, notes=found.notes), config, wanted, found)
        return
    targets = _named(config.target_path, "target_path")
    if len(sources) != len(targets):
        raise UserError(
            f"config.data.path={config.path!r} names {len(sources)} files and"
            f" config.data.target_path={config.target_path!r} names {len(targets)}; name as many"
            " files of each side, in the same order"
        )
    other = config.target_encoding or config.encoding
    setting = "config.data.target_encoding"
    for path, target_path in zip(sources, targets, strict=True):
        source = TextFile(path, config.encoding, notes=found.notes)
        target = TextFile(target_path, other, setting, found.notes)
        _read_two_files(source, target, config, wanted, found)


def _corpus(found: Parallel, kind: type[corpus.Pairs], config: DataConfig) -> corpus.Corpus:
    cleaner = rules.Cleaner(kind(tuple(found.source), tuple(found.target)), found.place)
    counts = {"lines read": len(cleaner.pairs)}
    if found.has_blank:
        blank = (i for i, (one, other) in enumerate(cleaner.pairs) if not (one and other))
        cleaner.drop(rules.BLANK, "config.data.skip_blank", list(blank))
    cleaner.apply(config, labelled=kind is corpus.Labelled)
    removed = cleaner.counts().get(corpus.DUPLICATES, 0)
    pairs = cleaner.pairs
    parts = corpus.split_indices(
        pairs, range(len(pairs)), config, f"config.data.path={config.path!r}", removed
    )
    cleaner.record_overlaps(parts)
    return corpus.finished(
        "text",
        corpus.limited(pairs.take(parts.train), config),
        pairs.take(parts.validation),
        pairs.take(parts.test),
        counts | cleaner.counts(),
        "; ".join(found.notes),
        (removal.as_json() for removal in cleaner.removals),
    )


def _named(setting: str, name: str) -> list[str]:
    found = matches(setting)
    if not found:
        raise UserError(f"config.data.{name}={setting!r} matches no file; {RULE}")
    return found


def _read_file(file: TextFile, config: DataConfig, wanted: Wanted, found: Parallel) -> None:
    """Appends the pairs of a file with both sides."""
    name = config.format or recognised(file) or ONE_FILE
    kind = FORMATS[name]
    if kind.pairs is None:
        raise UserError(
            f"config.data.format={name!r} has one side in a file; name the other side's file in"
            " config.data.target_path"
        )
    start = len(found.source)
    _append(kind.pairs(file, wanted), file.path, kind, found)
    if wanted.skip_blank or kind.partial:
        found.has_blank = True
        return
    for side, lines in (("source", found.source), ("target", found.target)):
        _check_no_blank(lines, start, f"has no {side}", found)


def _read_two_files(
    source: TextFile, target: TextFile, config: DataConfig, wanted: Wanted, found: Parallel
) -> None:
    """Appends the pairs of two files with a side each."""
    _check_two_files(source, target, config)
    by_ending = ending_of(source), ending_of(target)
    name = config.format or (by_ending[0] if by_ending == ("sgml", "sgml") else TWO_FILES)
    kind = FORMATS[name]
    if kind.side is None:
        raise UserError(
            f"config.data.format={name!r} has both sides in a file; leave config.data.target_path"
            " empty"
        )
    counts, start = [0, 0], len(found.source)

    def units() -> Iterator[Unit]:
        assert kind.side is not None
        sides = (kind.side(source, wanted), kind.side(target, wanted))
        for one, other in itertools.zip_longest(*sides):
            counts[0] += one is not None
            counts[1] += other is not None
            if one and other:
                yield Unit(one[0], one[1], other[1])

    _append(units(), source.path, kind, found)
    if counts[0] != counts[1]:
        raise UserError(
            f"{source.path} has {counts[0]} {kind.unit}{'' if counts[0] == 1 else 's'} and"
            f" {target.path} has {counts[1]};"
            f" {kind.unit} i of one must translate {kind.unit} i of the other, so give two files of"
            " equal length"
        )
    if wanted.skip_blank:
        found.has_blank = True
        return
    _check_no_blank(found.source, start, "is empty", found)
    named = dataclasses.replace(found, files=[*found.files[:-1], (target.path, kind.unit, start)])
    _check_no_blank(found.target, start, "is empty", named)


def _check_two_files(source: TextFile, target: TextFile, config: DataConfig) -> None:
    """Raises `UserError` where the files or the settings belong to a file with both sides."""
    if pathlib.Path(source.path) == pathlib.Path(target.path):
        raise UserError(
            f"config.data.path and config.data.target_path both name {source.path}; name the file"
            " of the other side, or leave config.data.target_path empty if it holds both"
        )
    for file in (source, target):
        name = "" if config.format else recognised(file)
        if name and FORMATS[name].side is None:
            raise UserError(
                f"{file.path} is read as {name!r}, which has both sides in a file; leave"
                " config.data.target_path empty, or set config.data.format='lines' if each of its"
                " lines is a sentence"
            )
    for setting in ("source_column", "target_column"):
        if value := getattr(config, setting):
            raise UserError(
                f"config.data.{setting}={value!r} is of a file with columns and"
                " config.data.target_path names a second file; leave one of them empty"
            )


def ending_of(file: TextFile) -> str:
    """The format that the ending of a file's name belongs to, aside from compression; or none."""
    name = file.path.casefold()
    for ending in COMPRESSED_ENDINGS:
        name = name.removesuffix(ending)
    found = (one for one, kind in FORMATS.items() if kind.endings and name.endswith(kind.endings))
    return next(found, "")


def recognised(file: TextFile) -> str:
    """The format of a file with both sides by its name or else its first bytes; or none."""
    if ending := ending_of(file):
        return ending
    head = file.head()
    signs = (one for one, kind in FORMATS.items() if kind.signs and head.startswith(kind.signs))
    return next(signs, "")


def _append(units: Iterator[Unit], path: str, kind: Format, found: Parallel) -> None:
    found.files.append((path, kind.unit, len(found.source)))
    for number, source, target in units:
        found.source.append(clean_line(source))
        found.target.append(clean_line(target))
        found.numbers.append(number)


def _check_no_blank(lines: Sequence[str], start: int, fault: str, found: Parallel) -> None:
    blank = next((i for i in range(start, len(lines)) if not lines[i]), None)
    if blank is not None:
        raise UserError(f"{found.place(blank)} {fault}; every line must hold text, so {_SKIP}")
