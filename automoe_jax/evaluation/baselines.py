"""Baselines that need no network."""

from collections.abc import Sequence

import numpy as np

from automoe_jax.config import Config
from automoe_jax.data.sources import SOURCES
from automoe_jax.evaluation.networks import with_scores
from automoe_jax.evaluation.results import Scored
from automoe_jax.report.rows import Role, Row
from automoe_jax.workdir import Workdir


def baselines(
    config: Config, workdir: Workdir, sources: Sequence[str], references: Sequence[str]
) -> list[Scored]:
    """The baselines of the task, scored."""
    return [
        Scored(with_scores(Row(Role.BASELINE, variant), config, outputs, references), outputs)
        for variant, outputs in _outputs(config, workdir, sources).items()
    ]


def _outputs(config: Config, workdir: Workdir, sources: Sequence[str]) -> dict[str, list[str]]:
    if config.task == "classify":
        classes = workdir.tokens("train").target_tokens
        most_frequent = workdir.labels().name(int(np.bincount(classes).argmax()))
        return {"most_frequent": [most_frequent] * len(sources)}
    return {"copy": list(sources)} | {
        variant: [translated(line) for line in sources]
        for variant, translated in SOURCES.find(config.data.source).baselines.items()
    }
