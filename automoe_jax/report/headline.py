"""The first sentences of the report, in plain words and without claiming more than the numbers say."""

from collections.abc import Mapping, Sequence
from typing import Any

from automoe_jax.report import numbers
from automoe_jax.report.contents import DENSE, INHERITED, RETRAINED, find, number

CLEAR_FACTOR = 1.75  # from here on a ratio of costs reads better as a factor than as a percentage
SAME_COST = 0.01  # relative difference of FLOPs below which two costs are called the same

Row = Mapping[str, Any]


def headline(results: Sequence[Row]) -> str:
    """One sentence: what the found translator reaches, at what cost, beside the largest dense one."""
    found, dense = find(results, RETRAINED), find(results, DENSE)
    if found is None or number(found, "bleu") is None:
        return "The found translator has no BLEU score yet."
    sentence = f"The found translator reaches {_reach(found, results)}"
    if dense is None or number(dense, "bleu") is None:
        return sentence + "."
    return f"{sentence}{_comparison(found, dense, results)}."


def caveats(results: Sequence[Row], seed: int) -> list[str]:
    """Sentences that keep the headline honest: baselines it does not beat, inherited weights that do better."""
    found = find(results, RETRAINED)
    bleu = number(found or {}, "bleu")
    if found is None or bleu is None:
        return []
    notes = []
    inherited = number(find(results, INHERITED) or {}, "bleu")
    if inherited is not None and inherited > bleu:
        notes.append(
            f"The same architecture with the SuperNet's weights scores higher without retraining ({numbers.score(inherited)} BLEU)."
        )
    for row in results:
        baseline = number(row, "bleu")
        if _is_text_baseline(row) and baseline is not None and baseline >= bleu:
            notes.append(f"It does not beat the baseline “{row['name']}” ({numbers.score(baseline)} BLEU).")
    return [*notes, f"One run with seed {seed}; no significance test."]


def _is_text_baseline(row: Row) -> bool:
    return number(row, "params") is None and not any(find([row], role) for role in (RETRAINED, INHERITED, DENSE))


def _reach(row: Row, results: Sequence[Row]) -> str:
    """'78.3 BLEU at 31.0 MFLOPs'."""
    bleu = f"{numbers.score(number(row, 'bleu'))} BLEU"
    flops = number(row, "flops")
    unit = numbers.unit_of(number(other, "flops") for other in results)
    return bleu if flops is None else f"{bleu} at {unit.show(flops)} {unit.prefix}FLOPs"


def _comparison(found: Row, dense: Row, results: Sequence[Row]) -> str:
    cost, dense_cost = number(found, "flops"), number(dense, "flops")
    dense_bleu = f"{numbers.score(number(dense, 'bleu'))} BLEU"
    if not cost or not dense_cost:
        return f"; the largest dense one reaches {dense_bleu}"
    if abs(cost / dense_cost - 1) < SAME_COST:
        return f", the same cost as the largest dense one ({dense_bleu})"
    if cost < dense_cost:
        return f": {_factor(dense_cost / cost, 1 - cost / dense_cost)} fewer than the largest dense one ({dense_bleu})"
    if (number(dense, "bleu") or 0.0) >= (number(found, "bleu") or 0.0):
        return f"; the largest dense one is cheaper and not worse, {_reach(dense, results)}"
    return f": {_factor(cost / dense_cost, cost / dense_cost - 1)} more than the largest dense one ({dense_bleu})"


def _factor(ratio: float, share: float) -> str:
    """A large difference as a factor, a small one as a percentage."""
    return f"{numbers.ratio(ratio)}×" if ratio >= CLEAR_FACTOR else f"{share:.0%}"
