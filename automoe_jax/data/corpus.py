"""Parallel or labelled text: one `Corpus` for every source, and the split that all sources share.

Two lines are near-duplicates when their `duplicate_key` is the same: they differ in case, digits,
punctuation or blanks only; with `config.data.cleaning.max_similarity` also when they share most of
their character n-grams. No line of the validation or test text, on either side, has a
near-duplicate in the training text. Of labelled text only the source side is compared.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np

from automoe_jax.config import DataConfig
from automoe_jax.data.cleaning import duplicate_key
from automoe_jax.data.similarity import similar
from automoe_jax.data.sources import SOURCES
from automoe_jax.errors import UserError

SPLITS = ("train", "validation", "test")
# At most this share of the pairs may be held out; the rest is for training.
_LARGEST_HELD_OUT_SHARE = 0.5
# Names of counts in the statistics.
DUPLICATES = "duplicates removed"
OVERLAPPING = "near-duplicates of held-out lines removed"
OVERLAPPING_VALIDATION = "near-duplicates of test lines removed from validation"
_NEAR = "near-duplicates differ in case, digits, punctuation or blanks only"


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Sentences and their translations, in the same order."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target):
            raise ValueError(
                f"{len(self.source)} source lines and {len(self.target)} target lines cannot be"
                " pairs"
            )

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self.source, self.target, strict=True)

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The sides that are text."""
        return self.source, self.target

    def take(self, indices: Iterable[int]) -> Self:
        """The pairs at `indices`, in that order."""
        indices = list(indices)
        return type(self)(
            tuple(self.source[i] for i in indices), tuple(self.target[i] for i in indices)
        )

    def lines(self) -> Iterator[str]:
        """Every line of text, the two sides alternating: the input of a joint tokenizer."""
        for lines in zip(*self.texts, strict=True):
            yield from lines


class Labelled(Pairs):
    """Sentences, with the name of a class in place of a translation."""

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        return (self.source,)


P = TypeVar("P", bound=Pairs)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The text of an experiment, and statistics of its preparation (plain JSON values)."""

    train: Pairs
    validation: Pairs
    test: Pairs
    statistics: dict[str, Any]
    # what each rule left out, with examples (`rules.Removal` as plain JSON values)
    removals: tuple[Mapping[str, Any], ...] = ()


def load_corpus(config: DataConfig, cache_dir: pathlib.Path, task: str = "translate") -> Corpus:
    """The corpus that `config.source` names, `Labelled` for the task "classify"; downloads are
    stored in `cache_dir`.

    The same configuration and the same text give the same corpus. Raises `UserError` if the text is
    not available.
    """
    load = SOURCES.find(config.source).loader(task)
    if load is None:
        raise UserError(
            f"config.data.source={config.source!r} has no text for config.task={task!r}"
        )
    return load(config, pathlib.Path(cache_dir))


def unique_indices(pairs: Pairs, *, exact: bool = False) -> list[int]:
    """Index of the first occurrence of each distinct pair of keys (with `exact` of lines); for
    labelled text, of each sentence.
    """
    seen: set[bytes] = set()
    kept = []
    for i, lines in enumerate(zip(*pairs.texts, strict=True)):
        text = "\t".join(lines if exact else map(duplicate_key, lines))
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            kept.append(i)
    return kept


def overlapping(pairs: Pairs, held_out: Sequence[Pairs], similarity: float = 1.0) -> dict[int, str]:
    """Index of each pair that shares a near-duplicate line with `held_out`, on either side, and
    that line.
    """
    found: dict[int, str] = {}
    for side, lines in enumerate(pairs.texts):
        others = [line for other in held_out for line in other.texts[side]]
        held = {duplicate_key(line): line for line in others}
        keys = map(duplicate_key, lines)
        found |= {i: held[key] for i, key in enumerate(keys) if key in held}
        if similarity < 1 and others:
            near = similar(lines, others, similarity)
            found = {i: others[other] for i, other in near.items()} | found
    return found


def without_overlap(pairs: P, held_out: Sequence[Pairs], similarity: float = 1.0) -> P:
    """The pairs that share no near-duplicate line with `held_out`, on either side."""
    taken = overlapping(pairs, held_out, similarity)
    return pairs.take(i for i in range(len(pairs)) if i not in taken)


def filtered(pairs: P, counts: dict[str, int], name: str, keep: Callable[[str, str], bool]) -> P:
    """Pairs for which `keep(source, target)`; writes the number of the others to `counts[name]`."""
    kept = pairs.take(i for i, pair in enumerate(pairs) if keep(*pair))
    counts[name] = len(pairs) - len(kept)
    return kept


@dataclasses.dataclass(frozen=True)
class Split:
    """Indices of the pairs of each part, and of those that belong to none."""

    train: list[int]
    validation: list[int]
    test: list[int]
    # left out of the training and the validation text, with the held-out line that each resembles
    near_train: dict[int, str]
    near_validation: dict[int, str]

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of near-duplicates left out, by name."""
        of_validation = {OVERLAPPING_VALIDATION: len(self.near_validation)}
        return {OVERLAPPING: len(self.near_train)} | (of_validation if self.near_validation else {})


def split(
    pairs: Pairs, groups: Sequence[Any], config: DataConfig, what: str, removed: int = 0
) -> tuple[Pairs, Pairs, Pairs, dict[str, int]]:
    """(train, validation, test, counts of the near-duplicates left out, by name), as
    `split_indices` chooses them.
    """
    found = split_indices(pairs, groups, config, what, removed)
    train, validation, test = map(pairs.take, (found.train, found.validation, found.test))
    return train, validation, test, found.counts


def split_indices(
    pairs: Pairs, groups: Sequence[Any], config: DataConfig, what: str, removed: int = 0
) -> Split:
    """The parts of a text.

    Whole groups are held out, drawn in an order that only `config.seed` decides, until the asked
    sizes are reached; the pairs of the last group beyond the size are not used, nor are
    near-duplicates of the test text in the validation text.

    Args:
      pairs: the clean pairs, without duplicates.
      groups: the group of each pair.
      config: the sizes of the held-out text, and the seed.
      what: the name of the text in messages.
      removed: duplicates that were removed before, for messages.

    Raises `UserError` where too little text remains, with the cause.
    """
    _check_size(len(pairs), config, what, removed)
    members: dict[Any, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    names = list(members)
    order = [names[i] for i in np.random.default_rng(config.seed).permutation(len(names))]
    position, test = _take_groups(order, members, 0, config.test_pairs)
    position, validation = _take_groups(order, members, position, config.validation_pairs)
    rest = sorted(i for name in order[position:] for i in members[name])
    similarity = config.cleaning.max_similarity
    test_pairs = pairs.take(test)
    kept_validation, near_validation = _apart(pairs, validation, [test_pairs], similarity)
    if not validation:
        raise UserError(
            f"{what} has too few groups of pairs that belong together: the test text has all"
            f" {len(names)}; hold out fewer with config.data.test_pairs or give more text"
        )
    if not kept_validation:
        raise UserError(
            f"{what} has no validation text: all {len(validation)} pairs drawn for it are"
            f" near-duplicates of test pairs ({_NEAR}); hold out more with"
            " config.data.validation_pairs, or give text that repeats itself less"
        )
    held_out = [test_pairs, pairs.take(kept_validation)]
    train, near_train = _apart(pairs, rest, held_out, similarity)
    if not train:
        raise UserError(
            f"{what} has nothing left to train on after holding out"
            f" {config.validation_pairs + config.test_pairs} pairs: the {len(rest)}"
            f" others are near-duplicates of them ({_NEAR}); hold out fewer or give more text"
        )
    return Split(train, kept_validation, test, near_train, near_validation)


def _check_size(count: int, config: DataConfig, what: str, removed: int) -> None:
    """Raises `UserError` if the held-out text would be most of the `count` pairs."""
    if config.validation_pairs + config.test_pairs <= _LARGEST_HELD_OUT_SHARE * count:
        return
    duplicates = f" ({removed} duplicates were removed)" if removed else ""
    raise UserError(
        f"{what} has {count} usable pair{'' if count == 1 else 's'}{duplicates}, too"
        f" few to hold out config.data.validation_pairs={config.validation_pairs} and"
        f" config.data.test_pairs={config.test_pairs}; hold out fewer (at most half of the"
        " pairs) or give more text"
    )


def _apart(
    pairs: Pairs, indices: list[int], held_out: Sequence[Pairs], similarity: float
) -> tuple[list[int], dict[int, str]]:
    """The `indices` of pairs unlike the held-out text, and the held-out lines that the others
    resemble.
    """
    near = overlapping(pairs.take(indices), held_out, similarity)
    left_out = {indices[i]: line for i, line in near.items()}
    return [i for i in indices if i not in left_out], left_out


def limited(train: Pairs, config: DataConfig) -> Pairs:
    """At most `config.pairs` of the training pairs (0: all), drawn by `config.seed`, in their
    order.
    """
    if not config.pairs or config.pairs >= len(train):
        return train
    drawn = np.random.default_rng(config.seed).permutation(len(train))[: config.pairs]
    return train.take(sorted(int(i) for i in drawn))


def finished(
    source: str,
    train: Pairs,
    validation: Pairs,
    test: Pairs,
    counts: dict[str, int],
    notes: str = "",
    removals: Iterable[Mapping[str, Any]] = (),
) -> Corpus:
    """The corpus with its statistics: `counts` of the preparation, then sizes, words per side and a
    fingerprint; and what was left out of it.
    """
    parts = dict(zip(SPLITS, (train, validation, test), strict=True))
    statistics = {
        "source": source,
        "notes": notes,
        "preparation": dict(counts),
        "splits": {name: _sizes(pairs) for name, pairs in parts.items()},
        "fingerprint": _fingerprint(parts.values()),
    }
    return Corpus(train, validation, test, statistics, tuple(removals))


def describe(statistics: dict[str, Any]) -> str:
    """The statistics as a short table for a terminal."""
    rows = [f"  {name:<52}{count:>12,}" for name, count in statistics["preparation"].items()]
    columns = list(next(iter(statistics["splits"].values())))
    header = f"  {'split':<12}" + "".join(f"{column.replace('_', ' '):>16}" for column in columns)
    for name, sizes in statistics["splits"].items():
        header += f"\n  {name:<12}" + "".join(f"{sizes[column]:>16,}" for column in columns)
    notes = [f"  {statistics['notes']}"] if statistics["notes"] else []
    title = f"corpus {statistics['source']} (fingerprint {statistics['fingerprint'][:12]})"
    return "\n".join([title, *rows, header, *notes])


def _take_groups(
    order: Sequence[Any], members: dict[Any, list[int]], start: int, size: int
) -> tuple[int, list[int]]:
    """(the position after the groups used, the first `size` pairs of the groups from `start`
    on).
    """
    taken: list[int] = []
    while len(taken) < size and start < len(order):
        taken += members[order[start]]
        start += 1
    return start, taken[:size]


def _sizes(pairs: Pairs) -> dict[str, int]:
    target = (
        {"classes": len(set(pairs.target))}
        if isinstance(pairs, Labelled)
        else {"target_words": _words(pairs.target)}
    )
    return {"pairs": len(pairs), "source_words": _words(pairs.source), **target}


def _words(lines: Iterable[str]) -> int:
    return sum(len(line.split()) for line in lines)


def _fingerprint(parts: Iterable[Pairs]) -> str:
    digest = hashlib.sha256()
    for pairs in parts:
        for source, target in pairs:
            digest.update(f"{source}\t{target}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()
