"""Which experts the tokens of a text get, and how many where that depends on the text (DA-MoE; SPEC
3).

Axes: B sentences · S source tokens · T target tokens · L layers, the encoder's first · E experts ·
V vocabulary.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from automoe_jax.data.batching import Batch
from automoe_jax.model.layers import ExpertLayer
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import apply
from automoe_jax.train.step import shift_right


class ExpertUsage(NamedTuple):
    """Experts per token, float64."""

    # [L][E] share of the tokens that an expert gets; their sum is the layer's experts per token
    loads: list[list[float]]
    shares: list[list[float]]  # [L][K] share of the tokens with 1, 2, … experts
    # [V] the mean over the encoder's layers with several experts; NaN for one that is not in the
    # text
    source_tokens: np.ndarray
    counts: np.ndarray  # [V] how often each is in the source text


def measure(network: Network, batches: list[Batch]) -> ExpertUsage:
    """Experts per token of a sub-Transformer, teacher-forced on a text."""
    spec, vocab_size = network.spec, network.spec.vocab_size
    experts = [
        len(spec.expert_widths(side, i))
        for side in ("encoder", "decoder")
        for i in range(spec.layers(side))
    ]
    several = [i for i, count in enumerate(experts[: spec.layers("encoder")]) if count > 1]
    tallies = [np.zeros(count) for count in experts]
    total, counts = np.zeros(vocab_size), np.zeros(vocab_size)
    loads = [np.zeros(count) for count in experts]
    run = jax.jit(chosen_experts)
    for batch in batches:
        found = run(network, jnp.asarray(batch["source"]), jnp.asarray(batch["target"]))
        source, target_input = (
            batch["source"],
            np.asarray(shift_right(jnp.asarray(batch["target"]), spec.pad_id)),
        )
        numbers = []
        for i, chosen in enumerate(map(np.asarray, found)):
            real = (source if i < spec.layers("encoder") else target_input) != spec.pad_id
            numbers.append(chosen.sum(-1))
            loads[i] += chosen[real].sum(0)
            tallies[i] += np.bincount(numbers[i][real], minlength=experts[i] + 1)[1:]
        real = source != spec.pad_id
        counts += np.bincount(source[real], minlength=vocab_size)
        if several:
            mean = np.mean([numbers[i] for i in several], axis=0)
            total += np.bincount(source[real], weights=mean[real], minlength=vocab_size)
    tokens = [max(tally.sum(), 1) for tally in tallies]
    with np.errstate(invalid="ignore"):
        by_token = total / counts
    return ExpertUsage(
        [(load / count).tolist() for load, count in zip(loads, tokens, strict=True)],
        [(tally / count).tolist() for tally, count in zip(tallies, tokens, strict=True)],
        by_token,
        counts,
    )


def chosen_experts(network: Network, source: jax.Array, target: jax.Array) -> list[jax.Array]:
    """bool [B,S,E] or [B,T,E] for every layer: the experts each token gets; source [B,S] and target
    [B,T].
    """
    spec = network.spec
    routed: list[jax.Array] = []
    found: list[jax.Array] = []

    def listen(run: Any, arguments: Any, options: Any, context: Any) -> Any:
        result = run(*arguments, **options)
        if isinstance(context.module, ExpertLayer) and context.method_name == "_route":
            routed.append(
                jax.nn.one_hot(result.chosen, len(context.module.shape.max_widths), dtype=bool).any(
                    axis=1
                )
            )
        elif isinstance(context.module, ExpertLayer) and context.method_name == "__call__":
            tokens = source if len(found) < spec.layers("encoder") else target
            # A lone expert has no router.
            found.append(
                routed.pop().reshape(*tokens.shape, -1)
                if routed
                else jnp.ones((*tokens.shape, 1), bool)
            )
        return result

    with nn.intercept_methods(listen):
        apply(network, spec.exact_arch, source, shift_right(target, spec.pad_id))
    return found
