"""Experts that the tokens of a text are routed to, and their number where that depends on the text
(DA-MoE, arXiv 2409.06669).

Axes: B sentences · S source tokens · T target tokens · L layers, the encoder's first · E experts ·
V vocabulary.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float64, Int

from automoe_jax.arch import SIDES
from automoe_jax.data.batching import Batch
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import ForwardOptions, apply, shift_right


class ExpertUsage(NamedTuple):
    """Experts per token, float64."""

    # [L][E] share of the tokens that an expert gets; their sum is the layer's experts per token
    loads: list[list[float]]
    shares: list[list[float]]  # [L][K] share of the tokens with 1, 2, … experts
    # mean over the encoder's layers with several experts; NaN for a piece that is not in the text
    source_tokens: Float64[np.ndarray, "V"]
    counts: Float64[np.ndarray, "V"]  # occurrences in the source text


def measure(network: Network, batches: list[Batch]) -> ExpertUsage:
    """Experts per token of a sub-Transformer, teacher-forced on a text."""
    spec = network.spec
    experts = [len(spec.expert_widths(side, i)) for side in SIDES for i in range(spec.layers(side))]
    loads = [np.zeros(count) for count in experts]
    tallies = [np.zeros(count) for count in experts]
    pieces = _Pieces(np.zeros(spec.vocab_size), np.zeros(spec.vocab_size))
    run = jax.jit(chosen_experts)
    for batch in batches:
        source, target = jnp.asarray(batch["source"]), jnp.asarray(batch["target"])
        target_input = shift_right(target, spec.pad_id)
        chosen = [np.asarray(layer) for layer in run(network, source, target_input)]
        in_source, in_target = (np.asarray(side) != spec.pad_id for side in (source, target_input))
        for i, layer in enumerate(chosen):
            real = in_source if i < spec.layers("encoder") else in_target
            loads[i] += layer[real].sum(0)
            tallies[i] += np.bincount(layer[real].sum(-1), minlength=experts[i] + 1)[1:]
        encoder = [layer for layer in chosen[: spec.layers("encoder")] if layer.shape[-1] > 1]
        pieces.add(np.asarray(source)[in_source], [layer[in_source] for layer in encoder])
    tokens = [max(tally.sum(), 1) for tally in tallies]
    return ExpertUsage(
        [(load / count).tolist() for load, count in zip(loads, tokens, strict=True)],
        [(tally / count).tolist() for tally, count in zip(tallies, tokens, strict=True)],
        pieces.mean(),
        pieces.counts,
    )


class _Pieces(NamedTuple):
    """Sums over the occurrences of each piece of the vocabulary, updated in place."""

    experts: Float64[np.ndarray, "V"]  # experts, the mean over layers
    counts: Float64[np.ndarray, "V"]

    def add(self, tokens: Int[np.ndarray, "N"], layers: list[Bool[np.ndarray, "N _"]]) -> None:
        """Adds tokens [N] and their experts bool [N, E] in each of the layers."""
        size = len(self.counts)
        self.counts[:] += np.bincount(tokens, minlength=size)
        if layers:
            numbers = np.mean([layer.sum(-1) for layer in layers], axis=0)
            self.experts[:] += np.bincount(tokens, weights=numbers, minlength=size)

    def mean(self) -> Float64[np.ndarray, "V"]:
        """Experts per occurrence [V]; NaN for a piece without any."""
        with np.errstate(invalid="ignore"):
            return self.experts / self.counts


def chosen_experts(
    network: Network, source: Int[Array, "B S"], target_input: Int[Array, "B T"]
) -> list[Bool[Array, "B positions E"]]:
    """The experts of each token, bool [B,S,E] or [B,T,E] for every layer; source [B,S] and
    target_input [B,T].
    """
    spec = network.spec
    run = functools.partial(apply, forward_options=ForwardOptions(routings=True))
    routings = run(network, spec.exact_arch, source, target_input).routings
    layers = [(side, i) for side in SIDES for i in range(spec.layers(side))]
    chosen = []
    for (side, i), routing in zip(layers, routings, strict=True):
        tokens = source if side == "encoder" else target_input
        experts = len(spec.expert_widths(side, i))
        if routing is None:  # a single expert
            chosen.append(jnp.ones((*tokens.shape, experts), bool))
        else:
            chosen.append(jax.nn.one_hot(routing.chosen, experts, dtype=bool).any(axis=-2))
    return chosen
