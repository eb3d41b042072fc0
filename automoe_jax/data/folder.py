"""A folder of parallel files with separate validation and test sets, as WMT, OPUS and Moses name
them: `train.de` and `train.en`, `europarl-v7.de-en.de`, `newstest2014-deen-src.de.sgm`.

The files of a name are a set in two languages, NAME.LANGUAGE, or one file in a format with both.
The sets for validation and test are used as given; all other sets are for training.
"""

import dataclasses
import fnmatch
import pathlib
import re
from collections.abc import Sequence

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus, rules, text
from automoe_jax.data.formats.files import COMPRESSED_ENDINGS
from automoe_jax.data.formats.table import FORMATS
from automoe_jax.errors import UserError

# Names of sets; of the yearly ones the newest is the test set, the one before it for validation.
_TEST = ("test", "tst")
_VALIDATION = ("validation", "valid", "val", "dev", "devtest", "tune")
_YEARLY = re.compile(r"(newstest|newsdev|wmt|iwslt)[-_]?(20)?(\d\d)(\D|$)", re.IGNORECASE)
_SGML = re.compile(r"(?P<set>.+)[-_.](src|ref)\.(?P<language>[A-Za-z-]+)$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ParallelSet:
    """A set of pairs: a file with both sides, or one for each."""

    name: str
    path: str
    target_path: str = ""


@dataclasses.dataclass(frozen=True)
class Sets:
    """The sets of a folder by their use."""

    train: tuple[ParallelSet, ...]
    validation: tuple[ParallelSet, ...]
    test: tuple[ParallelSet, ...]


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of the folder `config.path`; pairs with a blank side are left out."""
    del cache_dir
    sets = find(config)
    counts: dict[str, int] = {}
    train = _read(sets.train, "train", config, counts)
    held_out = [
        _cleaner(_read(getattr(sets, part), part, config, counts), part, counts)
        for part in ("validation", "test")
    ]
    validation, test = (cleaner.pairs for cleaner in held_out)
    cleaner = _cleaner(train, "train", counts)
    cleaner.apply(config, duplicates="kept")
    near = corpus.overlapping(cleaner.pairs, [validation, test], config.cleaning.max_similarity)
    cleaner.drop(corpus.OVERLAPPING, "config.data.cleaning.max_similarity", near)
    removals = [one for part in (*held_out, cleaner) for one in part.removals]
    return corpus.finished(
        "folder",
        corpus.limited(cleaner.pairs, config),
        validation,
        test,
        counts | {removal.rule: removal.count for removal in removals},
        "; ".join(
            f"{part}: {', '.join(one.name for one in getattr(sets, part))}"
            for part in ("train", "validation", "test")
        ),
        (removal.as_json() for removal in removals),
    )


def find(config: DataConfig) -> Sets:
    """The sets of the folder by their use; raises `UserError` if there is none for one of them."""
    root = pathlib.Path(config.path).expanduser()
    if not root.is_dir():
        raise UserError(
            f"config.data.path={config.path!r} is not a folder; config.data.source='folder' needs"
            " one with parallel files"
        )
    found = _sets(root, config)
    names = [one.name for one in found]
    if not found:
        raise UserError(
            f"{root} has no parallel files: no NAME.{config.source_language} with a"
            f" NAME.{config.target_language}, and no file in a format with both languages"
        )
    test = _chosen(names, config.test_files, "test_files", _TEST, [])
    validation = _chosen(names, config.validation_files, "validation_files", _VALIDATION, test)
    both = set(test) & set(validation)
    train = [name for name in names if name not in {*test, *validation}]
    spare = [name for name in train if _year(name) is None]
    for part, chosen in (("test", test), ("validation", validation), ("train", spare)):
        if not chosen or both:
            setting = "test_files" if part == "train" else f"{part}_files"
            raise UserError(
                f"{root} has no {part} set among {', '.join(names)}; name sets for validation and"
                f" test, different ones, in config.data.validation_files and config.data.test_files"
                f" ({setting} has {getattr(config, setting)!r}), and add the others"
            )
    # Test sets of other years are no training text.
    by_name = {one.name: one for one in found}
    parts = ([by_name[name] for name in part] for part in (spare, validation, test))
    return Sets(*(tuple(part) for part in parts))


def files(config: DataConfig) -> list[str]:
    """The files that are read."""
    sets = find(config)
    every = (*sets.train, *sets.validation, *sets.test)
    return [path for one in every for path in (one.path, one.target_path) if path]


def _sets(root: pathlib.Path, config: DataConfig) -> list[ParallelSet]:
    """The parallel sets in a folder, also in its subfolders, in the order of their names."""
    languages = (config.source_language.casefold(), config.target_language.casefold())
    sides: dict[str, dict[str, str]] = {}
    found = {}
    for path in sorted(one for one in root.rglob("*") if one.is_file()):
        name = path.relative_to(root).as_posix()
        for ending in COMPRESSED_ENDINGS:
            name = name.removesuffix(ending)
        kind = _format(name)
        stem, _, language = name.rpartition(".")
        if kind and FORMATS[kind].pairs:
            found[stem] = ParallelSet(stem, str(path))
            continue
        if kind == "sgml" and (match := _SGML.fullmatch(stem)):
            stem, language = match["set"], match["language"]
        if language.casefold() in languages:
            sides.setdefault(stem, {}).setdefault(language.casefold(), str(path))
    for stem, paths in sides.items():
        if len(paths) == 2:
            found[stem] = ParallelSet(stem, paths[languages[0]], paths[languages[1]])
    return [found[name] for name in sorted(found)]


def _format(name: str) -> str:
    found = (one for one, kind in FORMATS.items() if kind.endings and name.endswith(kind.endings))
    return next(found, "")


def _chosen(
    names: Sequence[str], setting: str, field: str, usual: Sequence[str], taken: Sequence[str]
) -> list[str]:
    """The sets that a setting names by patterns, or those of a usual name, or the newest of the
    yearly ones that is not taken.
    """
    if setting:
        patterns = [part.strip() for part in setting.split(",")]
        unmatched = [one for one in patterns if not fnmatch.filter(names, one)]
        if unmatched:
            raise UserError(
                f"config.data.{field}={setting!r} names {unmatched[0]!r}, and the folder has"
                f" {', '.join(names)}"
            )
        return [name for name in names if any(fnmatch.fnmatch(name, one) for one in patterns)]
    by_name = [name for name in names if pathlib.PurePath(name).name.casefold() in usual]
    if by_name:
        return by_name
    yearly = {year: name for name in names if (year := _year(name)) and name not in taken}
    earlier = {year: name for year, name in yearly.items() if not taken or _before(year, taken)}
    return [earlier[max(earlier)]] if earlier else []


def _before(year: int, taken: Sequence[str]) -> bool:
    years = [one for name in taken if (one := _year(name))]
    return not years or year < min(years)


def _year(name: str) -> int | None:
    match = _YEARLY.match(pathlib.PurePath(name).name)
    return int(match[3]) + 1 if match else None


def _read(
    sets: Sequence[ParallelSet], part: str, config: DataConfig, counts: dict[str, int]
) -> text.Parallel:
    found = text.Parallel()
    for one in sets:
        settings = dataclasses.replace(
            config, path=one.path, target_path=one.target_path, format="", skip_blank=True
        )
        text.read_into(found, settings)
    counts[f"pairs in {part}"] = len(found.source)
    return found


def _cleaner(found: text.Parallel, part: str, counts: dict[str, int]) -> rules.Cleaner:
    """The pairs without those that have a blank side."""
    pairs = corpus.Pairs(tuple(found.source), tuple(found.target))
    cleaner = rules.Cleaner(pairs, found.place)
    blank = [i for i, (one, other) in enumerate(pairs) if not (one and other)]
    cleaner.drop(f"{part}: {rules.BLANK}", "config.data.skip_blank", blank)
    return cleaner
