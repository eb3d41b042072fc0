"""First sentences of the report, without claims beyond the numbers."""

from collections.abc import Sequence

from automoe_jax.report import numbers
from automoe_jax.report.contents import number, quality
from automoe_jax.report.rows import DENSE, INHERITED, RETRAINED, RIVAL, Role, Row, find

CLEAR_FACTOR = 1.75  # from here on a ratio of costs reads better as a factor than as a percentage
SAME_COST = 0.01  # relative difference of FLOPs below which two costs are called the same


def headline(results: Sequence[Row]) -> str:
    """One sentence: score and cost of the found translator or classifier, relative to the largest
    dense one and to the best dense one within the limits. The cost is latency where that was
    measured, else FLOPs.
    """
    retrained, dense, judged = find(results, RETRAINED), find(results, DENSE), quality(results)
    if retrained is None or number(retrained, judged.key) is None:
        return f"The found {judged.system} has no score yet."
    if timed := _in_milliseconds(retrained, dense, results):
        return f"{timed}{_rival(results)}."
    sentence = f"The found {judged.system} reaches {_reach(retrained, results)}"
    if dense is not None and number(dense, judged.key) is not None:
        sentence += _comparison(retrained, dense, results)
    return f"{sentence}{_rival(results)}."


def _rival(results: Sequence[Row]) -> str:
    """As in '; the best dense one within the limits takes 1.9 ms with 97.8 BLEU', or ''."""
    row = find(results, RIVAL)
    if row is None or number(row, quality(results).key) is None:
        return ""
    took = number(row, "deployed_ms")
    costs = _reach(row, results) if took is None else _score(row, results)
    verb = "reaches" if took is None else f"takes {numbers.significant(took)} ms with"
    return f"; the best dense one within the limits {verb} {costs}"


def caveats(results: Sequence[Row], seed: int) -> list[str]:
    """Caveats of the headline: baselines it does not beat, inherited weights that are better."""
    retrained, judged = find(results, RETRAINED), quality(results)
    reached = number(retrained, judged.key)
    if retrained is None or reached is None:
        return []
    notes = []
    inherited = find(results, INHERITED)
    inherits = number(inherited, judged.key)
    if inherited is not None and inherits is not None and inherits > reached:
        score = _score(inherited, results)
        notes.append(
            "The same architecture with the SuperNet's weights scores higher without retraining"
            f" ({score})."
        )
    for row in results:
        baseline = number(row, judged.key)
        if row.role is Role.BASELINE and baseline is not None and baseline >= reached:
            notes.append(f"It does not beat the baseline “{row.title}” ({_score(row, results)}).")
    return [*notes, _certainty(results, seed)]


def _certainty(results: Sequence[Row], seed: int) -> str:
    """The intervals of the differences from the dense networks, over test sentences only."""
    names = {DENSE: "the largest dense one", RIVAL: "the best dense one within the limits"}
    differences = [
        f"minus that of {name} is {-row.bleu_difference:+.2f} ({-high:+.2f} to {-low:+.2f})"
        for key, name in names.items()
        if (row := find(results, key)) and row.bleu_difference is not None
        for low, high in [row.bleu_interval]
    ]
    if not differences:
        return f"One run with seed {seed}; no significance test."
    return (
        f"Its BLEU {', and '.join(differences)}, with 95 % intervals over resampled test sentences;"
        f" one run with seed {seed}."
    )


def _in_milliseconds(retrained: Row, dense: Row | None, results: Sequence[Row]) -> str:
    """As in 'The found translator takes 1.9 ms for a sentence: 1.4× faster than the largest dense
    one (2.7 ms), with 86.1 BLEU against 86.5'; "" where no latency was measured.
    """
    took, dense_took = number(retrained, "deployed_ms"), number(dense, "deployed_ms")
    if took is None:
        return ""
    name = f"The found {quality(results).system}"
    sentence = f"{name} takes {numbers.significant(took)} ms for a sentence"
    if dense is None or dense_took is None:
        return f"{sentence}, with {_score(retrained, results)}"
    faster, factor = took < dense_took, max(took, dense_took) / min(took, dense_took)
    return (
        f"{sentence}: {numbers.ratio(factor)}× {'faster' if faster else 'slower'} than the largest"
        f" dense one ({numbers.significant(dense_took)} ms), with {_score(retrained, results)}"
        f" against {numbers.score(number(dense, quality(results).key))}"
    )


def _score(row: Row, results: Sequence[Row]) -> str:
    """'78.3 BLEU'."""
    judged = quality(results)
    return f"{numbers.score(number(row, judged.key))} {judged.unit}"


def _reach(row: Row, results: Sequence[Row]) -> str:
    """'78.3 BLEU at 31.0 MFLOPs'."""
    score = _score(row, results)
    flops = number(row, "flops")
    unit = numbers.unit_of(number(other, "flops") for other in results)
    return score if flops is None else f"{score} at {unit.show(flops)} {unit.prefix}FLOPs"


def _comparison(retrained: Row, dense: Row, results: Sequence[Row]) -> str:
    cost, dense_cost = number(retrained, "flops"), number(dense, "flops")
    dense_score, key = _score(dense, results), quality(results).key
    if not cost or not dense_cost:
        return f"; the largest dense one reaches {dense_score}"
    if abs(cost / dense_cost - 1) < SAME_COST:
        return f", the same cost as the largest dense one ({dense_score})"
    if cost < dense_cost:
        return (
            f": {_factor(dense_cost / cost, 1 - cost / dense_cost)} fewer than the largest dense"
            f" one ({dense_score})"
        )
    if (number(dense, key) or 0.0) >= (number(retrained, key) or 0.0):
        return f"; the largest dense one is cheaper and not worse, {_reach(dense, results)}"
    return (
        f": {_factor(cost / dense_cost, cost / dense_cost - 1)} more than the largest dense one"
        f" ({dense_score})"
    )


def _factor(ratio: float, share: float) -> str:
    """A large difference as a factor, a small one as a percentage."""
    return f"{numbers.ratio(ratio)}×" if ratio >= CLEAR_FACTOR else f"{share:.0%}"
