"""Formatting of numbers."""

import dataclasses
from collections.abc import Iterable
from typing import Any

MISSING = "–"


@dataclasses.dataclass(frozen=True)
class Unit:
    """A scale for a column of numbers, so that all are comparable."""

    size: float
    prefix: str  # of FLOPs: "M"
    word: str  # "millions"

    def show(self, value: float | None) -> str:
        """`value` in this unit with three significant digits, without the unit."""
        return MISSING if value is None else significant(value / self.size)


GIGA, MEGA, KILO = (
    Unit(1e9, "G", "billions"),
    Unit(1e6, "M", "millions"),
    Unit(1e3, "k", "thousands"),
)


def unit_of(values: Iterable[float | None]) -> Unit:
    """The unit in which the largest value is at least 0.5; at least thousands."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return next((unit for unit in (GIGA, MEGA) if largest >= unit.size / 2), KILO)


def significant(value: float, digits: int = 3) -> str:
    """Decimal notation with this number of significant digits, thousands separated: 1,234 · 31.4 ·
    0.0314.
    """
    if value == 0:
        return "0"
    text = f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - int(text.partition("e")[2]))
    if decimals > 8:
        return text
    return f"{float(text):,.{decimals}f}" if decimals else f"{value:,.0f}"


def plain(value: Any) -> str:
    """A statistic or setting: counts with separators, fractions with four digits, lists with
    commas.
    """
    if value is None:
        return MISSING
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:,.4g}"
    if isinstance(value, list | tuple):
        shown = ", ".join(plain(item) for item in value[:24])
        return f"{shown}, … ({len(value):,} in all)" if len(value) > 24 else shown
    return str(value)


def score(value: float | None) -> str:
    """BLEU or chrF: one decimal."""
    return MISSING if value is None else f"{value:.1f}"


def count(value: float | None) -> str:
    """A count, rounded to thousands or millions when it is long: 812 · 98.3 k · 4.1 M."""
    if value is None:
        return MISSING
    if value < 10_000:
        return f"{value:,.0f}"
    unit = next(unit for unit in (GIGA, MEGA, KILO) if value >= unit.size)
    return f"{significant(value / unit.size)} {unit.prefix}"


def duration(seconds: float | None) -> str:
    """Seconds as 3.2 s, 4 min 05 s or 7 h 20 min."""
    if seconds is None:
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def ratio(value: float) -> str:
    """A factor with two digits: 2.4, 12."""
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"
