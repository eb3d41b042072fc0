"""Experts that the tokens of the test text get, as fields of a row."""

import dataclasses

import numpy as np
from jaxtyping import Int

from automoe_jax.config import Config
from automoe_jax.data.batching import Batch, evaluation_batches
from automoe_jax.data.tokenizer import SeparateTokenizers, Tokenizer
from automoe_jax.inference import expert_usage
from automoe_jax.inference.expert_usage import ExpertUsage
from automoe_jax.model.network import Network
from automoe_jax.report.rows import Piece, Row
from automoe_jax.workdir import Workdir

PIECES = 20  # rows of each group in the table of pieces
RARE = 3  # most occurrences of a rare piece


def measure(config: Config, workdir: Workdir, network: Network) -> ExpertUsage:
    """Expert usage of a network on the test text, teacher-forced."""
    return expert_usage.measure(network, _test_batches(config, workdir))


def loads(usage: ExpertUsage) -> tuple[tuple[float, ...], ...]:
    """Of each layer, the share of the tokens that each expert got."""
    return _rounded(usage.loads)


def with_numbers_of_experts(
    row: Row, usage: ExpertUsage, tokenizer: Tokenizer | SeparateTokenizers
) -> Row:
    """The row with the numbers of experts, for routers whose number depends on the token: by layer,
    for the most frequent pieces of the source text, and for some rare ones.
    """
    known = np.flatnonzero(usage.counts)
    frequent = known[np.argsort(-usage.counts[known], kind="stable")][:PIECES]
    all_rare = known[usage.counts[known] <= RARE]
    rare = np.setdiff1d(all_rare, frequent)
    rare = rare[evenly_spaced(len(rare), PIECES)]  # the first are single bytes
    pieces = [
        Piece(
            tokenizer.piece(i),
            int(usage.counts[i]),
            round(float(usage.source_tokens[i]), 3),
            group,
        )
        for group, members in (("frequent", frequent), ("rare", rare))
        for i in members.tolist()
    ]
    means = {
        name: _weighted_mean(usage, group)
        for name, group in (("frequent", frequent), ("rare", all_rare))
        if len(group)
    }
    return dataclasses.replace(
        row,
        experts_per_token=tuple(round(sum(layer), 4) for layer in usage.loads),
        experts_shares=_rounded(usage.shares),
        experts_of_pieces=tuple(pieces),
        experts_of_groups=means,
    )


def evenly_spaced(count: int, samples: int) -> list[int]:
    """At most `samples` indices below `count` at even distances."""
    samples = min(samples, count)
    return [i * count // samples for i in range(samples)]


def _test_batches(config: Config, workdir: Workdir) -> list[Batch]:
    tokens = config.retrain.tokens_per_batch // config.retrain.accumulate
    return evaluation_batches(workdir.tokens("test"), config.data.buckets, tokens)


def _rounded(layers: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(share, 4) for share in layer) for layer in layers)


def _weighted_mean(usage: ExpertUsage, group: Int[np.ndarray, "group"]) -> float:
    mean = np.average(usage.source_tokens[group], weights=usage.counts[group])
    return round(float(mean), 4)
