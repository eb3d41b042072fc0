"""Differences of the other networks from the retrained sub-Transformer, with intervals over
resampled test sentences.
"""

import dataclasses
from collections.abc import Sequence

from automoe_jax.config import Config
from automoe_jax.evaluation.networks import joined
from automoe_jax.evaluation.results import Scored
from automoe_jax.inference.scores import paired_accuracy, paired_bootstrap
from automoe_jax.report.rows import RETRAINED, Role, Row


def with_differences(
    config: Config, networks: Sequence[Scored], references: Sequence[str]
) -> list[Row]:
    """The rows of the networks; those of other networks than the retrained one with the difference
    of their BLEU, or accuracy in the note.
    """
    retrained = next(one for one in networks if one.row.key == RETRAINED)
    return [
        _compared(config, one, retrained, references) if one.row.role in _OTHERS else one.row
        for one in networks
    ]


_OTHERS = (Role.INHERITED, Role.RIVAL, Role.DENSE)


def _compared(config: Config, one: Scored, retrained: Scored, references: Sequence[str]) -> Row:
    if config.task == "classify":
        by = paired_accuracy(retrained.outputs, one.outputs, references)
        unit = "% accuracy"
    else:
        systems, language = {"it": one.outputs}, config.data.target_language
        by = paired_bootstrap(retrained.outputs, systems, references, language)["it"]
        unit = "BLEU"
    note = f"{by.mean:+.2f} ({by.low:+.2f} to {by.high:+.2f}) {unit} against {retrained.row.title}"
    row = dataclasses.replace(one.row, note=joined(note, one.row.note))
    if config.task == "classify":
        return row
    interval = (round(by.low, 2), round(by.high, 2))
    return dataclasses.replace(row, bleu_difference=round(by.mean, 2), bleu_interval=interval)
