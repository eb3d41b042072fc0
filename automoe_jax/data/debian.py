"""Parallel text available on any Debian or Ubuntu machine: the translated descriptions of packages.

apt fetches them from the machine's configured mirrors into a private folder, without root. The
English and the translated description of a package have the same Description-md5. Titles are pairs;
if the numbers of paragraphs agree, so are paragraphs, list items and sentences.

For classification: the English description of every package, and the section of the archive that it
belongs to.
"""

import collections
import functools
import gzip
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus
from automoe_jax.data.cleaning import clean_line, duplicate_key
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import atomic_writer

ENGLISH = "en"
_APT_HELPER = "/usr/lib/apt/apt-helper"
_WAY_OUT = "use data.source='text' with your own files instead"
# A usable pair has at most this many words a side, and its sides differ in length by at most this
# factor (of characters).
_MOST_WORDS, _MOST_RATIO = 100, 2.5
# Lines this short may differ more: "Library" and "Bibliothek für Entwickler".
_RATIO_SLACK = 20
# A section with fewer packages is not a class: too few to learn and to score.
_LEAST_IN_SECTION = 100
_BULLET = re.compile(r"^\s*(?:[*+•·-]+|o|\d{1,2}[.)])\s+")
_SENTENCE_END = re.compile(r"(?<=[^\W\d_]{3}[.!?]) +(?=[A-ZÄÖÜÀÂÉÈÊÎÔÇ])")
_HAS_LETTERS = re.compile(r"[^\W\d_]{2}")


class Description(NamedTuple):
    """One package's description in one language."""

    package: str
    md5: str
    title: str
    # each with its list items, or its text as the only item
    paragraphs: tuple[tuple[str, ...], ...]


class Joined(NamedTuple):
    """Aligned text before filtering: `packages[i]` is the package of pair i."""

    # source packages of labelled text; packages of one source package are similar
    packages: tuple[str, ...]
    pairs: corpus.Pairs
    counts: dict[str, int]


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of package descriptions, split by package; the joined download is cached in
    `cache_dir`.
    """
    foreign = _foreign_language(config)
    joined = _cached(cache_dir / f"debian-en-{foreign}.json.gz", functools.partial(fetch, foreign))
    counts = dict(joined.counts)
    pairs, packages = cleaned(joined, counts)
    if config.source_language != ENGLISH:
        pairs = corpus.Pairs(pairs.target, pairs.source)
    train, validation, test, overlapping = corpus.split(
        pairs, packages, config, f"the en-{foreign} text of config.data.source='debian'"
    )
    counts |= overlapping
    return corpus.finished(
        "debian", corpus.limited(train, config), validation, test, counts, "held out by package"
    )


def load_labelled(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """English descriptions and the sections of their packages, split by source package; cached like
    those of `load`.
    """
    joined = _cached(cache_dir / "debian-sections.json.gz", fetch_sections)
    counts, frequent = dict(joined.counts), collections.Counter(joined.pairs.target)
    kept = [
        i for i, section in enumerate(joined.pairs.target) if frequent[section] >= _LEAST_IN_SECTION
    ]
    counts[f"removed: of sections of fewer than {_LEAST_IN_SECTION} packages"] = len(
        joined.pairs
    ) - len(kept)
    pairs = corpus.Labelled(joined.pairs.source, joined.pairs.target).take(kept)
    unique = corpus.unique_indices(pairs)
    counts[corpus.DUPLICATES] = len(pairs) - len(unique)
    groups = [joined.packages[kept[i]] for i in unique]
    train, validation, test, overlapping = corpus.split(
        pairs.take(unique), groups, config, "the text of config.data.source='debian'"
    )
    counts |= overlapping
    return corpus.finished(
        "debian",
        corpus.limited(train, config),
        validation,
        test,
        counts,
        "sections, held out by source package",
    )


def cleaned(joined: Joined, counts: dict[str, int]) -> tuple[corpus.Pairs, list[str]]:
    """The clean pairs without duplicates, and the package of each; writes the numbers of removed
    pairs to `counts`.
    """
    counts["aligned pairs"] = len(joined.pairs)
    tagged = list(zip(joined.packages, joined.pairs, strict=True))
    for name, is_bad in _FILTERS.items():
        kept = [(package, pair) for package, pair in tagged if not is_bad(*pair)]
        counts[f"removed: {name}"] = len(tagged) - len(kept)
        tagged = kept
    pairs = corpus.Pairs(tuple(pair[0] for _, pair in tagged), tuple(pair[1] for _, pair in tagged))
    unique = corpus.unique_indices(pairs)
    counts[corpus.DUPLICATES] = len(pairs) - len(unique)
    counts["clean unique pairs"] = len(unique)
    return pairs.take(unique), [tagged[i][0] for i in unique]


def parse(
    lines: Iterable[str], language: str, only: Mapping[str, object] | None = None
) -> Iterator[Description]:
    """The descriptions of a Translation-`language` file; with `only`, those whose md5 is in it."""
    for fields, body in _stanzas(lines):
        md5, title = fields.get("Description-md5", ""), fields.get(f"Description-{language}", "")
        if md5 and title and (only is None or md5 in only):
            yield Description(fields.get("Package", md5), md5, clean_line(title), _paragraphs(body))


def parse_sections(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(md5 of the description, section, source package) of every package of a Packages file;
    "contrib/net" is "net".
    """
    for fields, _ in _stanzas(lines):
        if "Description-md5" in fields and "Section" in fields:
            source = fields.get("Source", fields.get("Package", "")).partition(" ")[0]
            yield fields["Description-md5"], fields["Section"].rpartition("/")[2], source


def join(english: Mapping[str, Description], foreign: Iterable[Description]) -> Joined:
    """Aligns descriptions of equal md5: titles always, bodies where the numbers of paragraphs
    agree.
    """
    packages: list[str] = []
    rows: list[tuple[str, str]] = []
    counts = {
        "packages translated": 0,
        "packages without English text": 0,
        "packages of which only the title aligns": 0,
    }
    for theirs in foreign:
        ours = english.get(theirs.md5)
        counts["packages translated"] += 1
        if ours is None:
            counts["packages without English text"] += 1
            continue
        aligned = [(ours.title, theirs.title)]
        if len(ours.paragraphs) == len(theirs.paragraphs):
            for pair in zip(ours.paragraphs, theirs.paragraphs, strict=True):
                aligned += _aligned_paragraph(*pair)
        else:
            counts["packages of which only the title aligns"] += 1
        rows += aligned
        packages += [ours.package] * len(aligned)
    return Joined(
        tuple(packages),
        corpus.Pairs(tuple(row[0] for row in rows), tuple(row[1] for row in rows)),
        counts,
    )


def label(
    descriptions: Mapping[str, Description], sections: Iterable[tuple[str, str, str]]
) -> Joined:
    """Title and text of each described package, and its section; packages with the same description
    count once.
    """
    rows = {
        md5: (_running_text(descriptions[md5]), section, source)
        for md5, section, source in sections
        if md5 in descriptions
    }
    texts, names, sources = zip(*rows.values(), strict=True) if rows else ((), (), ())
    return Joined(sources, corpus.Pairs(texts, names), {"packages described": len(rows)})


def fetch_sections(folder: pathlib.Path) -> Joined:
    """Downloads the index of packages and their English descriptions with apt into `folder` and
    joins them.
    """
    contents = _download(("Packages", f"Translation-{ENGLISH}"), ENGLISH, folder)
    packages, translations = contents.values()
    descriptions = {
        description.md5: description
        for path in translations
        for description in parse(_lines(path), ENGLISH)
    }
    return label(
        descriptions,
        itertools.chain.from_iterable(parse_sections(_lines(path)) for path in packages),
    )


def fetch(foreign: str, folder: pathlib.Path) -> Joined:
    """Downloads the descriptions with apt into `folder` and joins them."""
    started = time.monotonic()
    contents = _download((f"Translation-{ENGLISH}", f"Translation-{foreign}"), foreign, folder)
    ours, translated = contents.values()
    theirs = {
        description.md5: description
        for path in translated
        for description in parse(_lines(path), foreign)
    }
    english = {
        description.md5: description
        for path in ours
        for description in parse(_lines(path), ENGLISH, theirs)
    }
    joined = join(english, theirs.values())
    _say(
        f"joined {len(joined.pairs):,} pairs of {joined.counts['packages translated']:,} packages"
        f" in {time.monotonic() - started:.0f} s"
    )
    return joined


def _download(kinds: Sequence[str], foreign: str, folder: pathlib.Path) -> dict[str, list[str]]:
    """Files of each kind of apt's lists, in `folder`; raises `UserError` if a kind has none."""
    apt = _apt_command(foreign, folder)
    _say("fetching package descriptions with apt ...")
    started = time.monotonic()
    update = _run([*apt, "--quiet", "update"])
    listed = _run([*apt, "indextargets", "--format", "$(SHORTDESC) $(FILENAME)"])
    downloaded = {
        kind: _files_of(dict.fromkeys(listed.stdout.splitlines()), kind) for kind in kinds
    }
    for kind, paths in downloaded.items():
        if not paths:
            raise UserError(
                f"apt offers no {kind} package descriptions ({_complaint(update, listed)});"
                f" {_WAY_OUT}"
            )
    _say(f"fetched in {time.monotonic() - started:.0f} s, joining ...")
    return downloaded


def _foreign_language(config: DataConfig) -> str:
    languages = [config.source_language, config.target_language]
    others = [language for language in languages if language != ENGLISH]
    if len(others) != 1 or not re.fullmatch(r"[A-Za-z_]+", others[0]):
        raise UserError(
            f"config.data.source_language={languages[0]!r} and"
            f" config.data.target_language={languages[1]!r}: one of them must be 'en' and the other"
            " another language when data.source='debian'"
        )
    return others[0]


def _cached(path: pathlib.Path, fetch: Callable[[pathlib.Path], Joined]) -> Joined:
    """The result of `fetch`, downloaded only if `path` does not hold it."""
    if path.exists():
        try:
            return _read(path)
        except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
            _say(f"{path} is damaged ({error}), so it is fetched again")
    folder = path.parent / f".apt-{path.name.partition('.')[0]}"
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
    try:
        joined = fetch(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    saved = {
        "packages": joined.packages,
        "english": joined.pairs.source,
        "foreign": joined.pairs.target,
        "counts": joined.counts,
    }
    with atomic_writer(path) as file:
        file.write(gzip.compress(json.dumps(saved, ensure_ascii=False).encode(), mtime=0))
    return joined


def _read(path: pathlib.Path) -> Joined:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        saved = json.load(file)
    _say(f"using {path}")
    return Joined(
        tuple(saved["packages"]),
        corpus.Pairs(tuple(saved["english"]), tuple(saved["foreign"])),
        saved["counts"],
    )


def _apt_command(foreign: str, folder: pathlib.Path) -> list[str]:
    """An apt-get command with lists and caches in `folder` and both languages."""
    if not shutil.which("apt-get") or not os.access(_APT_HELPER, os.X_OK):
        raise UserError(
            "config.data.source='debian' needs apt, which this machine lacks (it is not Debian or"
            f" Ubuntu); {_WAY_OUT}"
        )
    folder = folder.resolve()
    lists, caches = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True)
    (caches / "archives" / "partial").mkdir(parents=True)
    options = {
        "Acquire::Languages": f"{foreign},{ENGLISH}",
        "Dir::State::Lists": lists,
        "Dir::Cache": caches,
        "APT::Sandbox::User": "root",
    }
    return [
        "apt-get",
        *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
    ]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=False,
    )


def _complaint(*runs: subprocess.CompletedProcess[str]) -> str:
    """The first error in apt's output; for apt, a mirror's failure is not an error if others
    answer.
    """
    lines = [
        line for run in runs for line in run.stderr.splitlines() if line.startswith(("E:", "W:"))
    ]
    return lines[0] if lines else "its sources have none"


def _files_of(files: Iterable[str], kind: str) -> list[str]:
    paths = (line.partition(" ")[2] for line in files if line.startswith(f"{kind} "))
    return [path for path in paths if os.path.exists(path)]


def _lines(path: str) -> Iterator[str]:
    """Lines of one of apt's lists, with any compression."""
    content = subprocess.run([_APT_HELPER, "cat-file", path], capture_output=True, check=False)
    if content.returncode:
        raise UserError(
            f"apt could not unpack {path} ({content.stderr.decode(errors='replace').strip()});"
            f" {_WAY_OUT}"
        )
    yield from content.stdout.decode(errors="replace").split("\n")


def _stanzas(lines: Iterable[str]) -> Iterator[tuple[dict[str, str], list[str]]]:
    """(fields, indented lines) of each stanza of a Debian control file; an empty line ends a
    stanza.
    """
    fields: dict[str, str] = {}
    body: list[str] = []
    for line in itertools.chain(lines, [""]):
        if line.startswith(" "):
            body.append(line[1:].rstrip())
        elif line.strip():
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        elif fields:
            yield fields, body
            fields, body = {}, []


def _running_text(description: Description) -> str:
    return (
        f"{description.title}:"
        f" {' '.join(item for items in description.paragraphs for item in items)}"
    )


def _paragraphs(body: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Paragraphs end at a line " ."; within one, every bullet starts a new item."""
    paragraphs: list[list[str]] = [[]]
    for line in body:
        if line == ".":
            paragraphs.append([])
        elif _BULLET.match(line) or not paragraphs[-1]:
            paragraphs[-1].append(_BULLET.sub("", line))
        else:
            paragraphs[-1][-1] += f" {line}"
    return tuple(tuple(map(clean_line, items)) for items in paragraphs if items)


def _aligned_paragraph(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Items one to one if their numbers agree, and their sentences if those numbers agree too."""
    if len(ours) != len(theirs):
        return [(" ".join(ours), " ".join(theirs))]
    rows: list[tuple[str, str]] = []
    for pair in zip(ours, theirs, strict=True):
        sentences = [_SENTENCE_END.split(item) for item in pair]
        rows += zip(*sentences, strict=True) if len(sentences[0]) == len(sentences[1]) else [pair]
    return rows


def _too_unequal(source: str, target: str) -> bool:
    shorter, longer = sorted((len(source), len(target)))
    return longer + _RATIO_SLACK > _MOST_RATIO * (shorter + _RATIO_SLACK)


# Filters of pairs, in the order of checks; the names appear in the statistics.
_FILTERS = {
    "a side without words": lambda source, target: (
        not (_HAS_LETTERS.search(source) and _HAS_LETTERS.search(target))
    ),
    "untranslated (both sides the same)": (
        lambda source, target: duplicate_key(source) == duplicate_key(target)
    ),
    f"longer than {_MOST_WORDS} words": (
        lambda source, target: max(len(source.split()), len(target.split())) > _MOST_WORDS
    ),
    f"lengths differ by more than {_MOST_RATIO} times": _too_unequal,
}


def _say(message: str) -> None:
    print(f"debian: {message}", file=sys.stderr, flush=True)
