"""Rules that leave pairs out of a text (`config.data.cleaning`), and the report of what they left
out and why.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from automoe_jax.config import CleaningConfig, DataConfig
from automoe_jax.data import scripts
from automoe_jax.data.corpus import (
    DUPLICATES,
    OVERLAPPING,
    OVERLAPPING_VALIDATION,
    Pairs,
    Split,
    unique_indices,
)

_GROUP = "config.data.cleaning"
_EXAMPLES = 5  # of each rule, evenly over the text
_SHOWN = 40  # characters of an example's side in a table for a terminal
# Names of rules, with the settings that change them.
BLANK = "pairs with a blank side removed"
RATIO = "pairs of unequal lengths removed"
IDENTICAL = "pairs of identical sides removed"
SCRIPT = "pairs in another script removed"


class Example(NamedTuple):
    """A pair that was left out."""

    place: str  # file and line
    source: str
    target: str
    near: str = ""  # the held-out line that it is a near-duplicate of


@dataclasses.dataclass(frozen=True)
class Removal:
    """What one rule left out."""

    rule: str
    setting: str  # that changes the rule
    count: int
    examples: tuple[Example, ...]

    def as_json(self) -> dict[str, Any]:
        """The removal as plain JSON values."""
        examples = [example._asdict() for example in self.examples]
        return dataclasses.asdict(self) | {"examples": examples}


class Cleaner:
    """The pairs of a text that are left after each rule, and the report."""

    def __init__(self, pairs: Pairs, place: Callable[[int], str]):
        """`place` names the file and the line of a pair by its index."""
        self.pairs = pairs
        self.removals: list[Removal] = []
        self._place = place
        self._index: Sequence[int] = range(len(pairs))  # of each pair left, in the whole text

    def drop(self, rule: str, setting: str, indices: Mapping[int, str] | Sequence[int]) -> int:
        """Leaves out the pairs at `indices` (of those left), which may name what each is near to;
        returns their number.
        """
        self.record(rule, setting, indices)
        dropped = frozenset(indices)
        left = [i for i in range(len(self.pairs)) if i not in dropped]
        self.pairs = self.pairs.take(left)
        self._index = [self._index[i] for i in left]
        return len(dropped)

    def record(self, rule: str, setting: str, indices: Mapping[int, str] | Sequence[int]) -> None:
        """Reports the pairs at `indices`, which the caller leaves out."""
        ordered = sorted(indices)
        near = indices if isinstance(indices, Mapping) else {}
        shown = np.linspace(0, len(ordered) - 1, _EXAMPLES).round().astype(int)
        examples = tuple(
            Example(
                self._place(self._index[i]),
                self.pairs.source[i],
                self.pairs.target[i],
                near.get(i, ""),
            )
            for i in (ordered[j] for j in dict.fromkeys(shown.tolist()) if ordered)
        )
        self.removals.append(Removal(rule, setting, len(ordered), examples))

    def apply(
        self, config: DataConfig, *, labelled: bool = False, duplicates: str = "near"
    ) -> None:
        """Applies the rules of `config.cleaning` that are on, and leaves out duplicates, of the
        kind `duplicates` unless the settings name another.
        """
        for rule, setting, drops in _rules(config, labelled):
            self.drop(rule, f"{_GROUP}.{setting}", np.flatnonzero(drops(self.pairs)).tolist())
        kind = config.cleaning.duplicates or duplicates
        if kind != "kept":
            kept = frozenset(unique_indices(self.pairs, exact=kind == "exact"))
            repeated = [i for i in range(len(self.pairs)) if i not in kept]
            self.drop(DUPLICATES, f"{_GROUP}.duplicates", repeated)

    def record_overlaps(self, parts: Split) -> None:
        """Reports the near-duplicates of held-out lines that the split left out."""
        setting = f"{_GROUP}.max_similarity"
        self.record(OVERLAPPING, setting, parts.near_train)
        if parts.near_validation:
            self.record(OVERLAPPING_VALIDATION, setting, parts.near_validation)

    def counts(self) -> dict[str, int]:
        """The number of pairs that each rule left out."""
        return {removal.rule: removal.count for removal in self.removals}


def describe(removals: Sequence[Mapping[str, Any]]) -> list[str]:
    """The removals, as JSON values, in a short table for a terminal, with an example of each."""
    lines = []
    for removal in removals:
        if not removal["count"]:
            continue
        first = removal["examples"][0]
        sides = " | ".join(_short(first[side]) for side in ("source", "target"))
        lines.append(f"  {removal['rule']}: {removal['count']:,} ({removal['setting']})")
        lines.append(f"    {first['place']}: {sides}")
    return lines


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _rules(
    config: DataConfig, labelled: bool
) -> Iterator[tuple[str, str, Callable[[Pairs], np.ndarray]]]:
    """(rule, setting, pairs → whether each is left out) of the rules that are on."""
    cleaning = config.cleaning
    if cleaning.max_length_ratio:
        yield RATIO, "max_length_ratio", lambda pairs: _unequal(pairs, cleaning.max_length_ratio)
    if cleaning.drop_identical:
        yield IDENTICAL, "drop_identical", _identical
    if cleaning.min_script_share:
        yield SCRIPT, "min_script_share", lambda pairs: _foreign(pairs, config, labelled)


def _unequal(pairs: Pairs, limit: float) -> np.ndarray:
    """Whether target and source characters are further than `limit` times from their median ratio,
    in either direction; in logarithms, so that both directions are alike.
    """
    if not len(pairs):
        return np.zeros(0, bool)
    source, target = (np.array([len(line) for line in side]) for side in pairs.texts)
    ratio = np.log(np.maximum(target, 1)) - np.log(np.maximum(source, 1))
    return np.abs(ratio - np.median(ratio)) > np.log(limit)


def _identical(pairs: Pairs) -> np.ndarray:
    return np.array([source.casefold() == target.casefold() for source, target in pairs], bool)


def _foreign(pairs: Pairs, config: DataConfig, labelled: bool) -> np.ndarray:
    """Whether too small a share of the letters of a side is in the scripts of its language."""
    cleaning: CleaningConfig = config.cleaning
    sides = ("source",) if labelled else ("source", "target")
    foreign = np.zeros(len(pairs), bool)
    for side in sides:
        language = getattr(config, f"{side}_language")
        named = getattr(cleaning, f"{side}_scripts")
        able = scripts.named(named, side) if named else scripts.of_language(language, side)
        share = scripts.share_in(getattr(pairs, side), able)
        foreign |= share < cleaning.min_script_share
    return foreign
