"""How many experts the tokens of a text get where that depends on the text (DA-MoE; SPEC 3).

Axes: B sentences · S source tokens · T target tokens · L layers, the encoder's first · V vocabulary.
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
from automoe_jax.ops.routing import deserved
from automoe_jax.train.step import shift_right


class Choices(NamedTuple):
    """Experts per token, float64."""

    layers: list[float]  # [L] the mean over all tokens
    shares: list[list[float]]  # [L][K] share of the tokens with 1, 2, … experts
    source_tokens: np.ndarray  # [V] the mean over the encoder's layers with several experts; NaN for one that is not in the text
    counts: np.ndarray  # [V] how often each is in the source text


def measure(network: Network, batches: list[Batch]) -> Choices:
    """Experts per token of a sub-Transformer, teacher-forced on a text."""
    spec, vocab_size = network.spec, network.spec.vocab_size
    experts = [len(spec.expert_widths(side, i)) for side in ("encoder", "decoder") for i in range(spec.layers(side))]
    several = [i for i, count in enumerate(experts[: spec.layers("encoder")]) if count > 1]
    tallies = [np.zeros(count) for count in experts]
    total, counts = np.zeros(vocab_size), np.zeros(vocab_size)
    run = jax.jit(numbers)
    for batch in batches:
        found = run(network, jnp.asarray(batch["source"]), jnp.asarray(batch["target"]))
        source, target_input = batch["source"], np.asarray(shift_right(jnp.asarray(batch["target"]), spec.pad_id))
        for i, (tally, number) in enumerate(zip(tallies, found, strict=True)):
            tokens = source if i < spec.layers("encoder") else target_input
            tally += np.bincount(np.asarray(number)[tokens != spec.pad_id], minlength=len(tally) + 1)[1:]
        real = source != spec.pad_id
        counts += np.bincount(source[real], minlength=vocab_size)
        if several:
            mean = np.mean([found[i] for i in several], axis=0)
            total += np.bincount(source[real], weights=mean[real], minlength=vocab_size)
    shares = [tally / max(tally.sum(), 1) for tally in tallies]
    with np.errstate(invalid="ignore"):
        by_token = total / counts
    return Choices(
        [float(share @ np.arange(1, len(share) + 1)) for share in shares], [share.tolist() for share in shares], by_token, counts
    )


def numbers(network: Network, source: jax.Array, target: jax.Array) -> list[jax.Array]:
    """int32 [B,S] or [B,T] for every layer: how many experts each token gets; source [B,S] and target [B,T]."""
    found: list[jax.Array] = []

    def listen(run: Any, arguments: Any, options: Any, context: Any) -> Any:
        if isinstance(context.module, ExpertLayer) and context.method_name == "__call__":
            tokens, experts = arguments[1], len(context.module.shape.fan)
            shape = (source, target)[len(found) >= network.spec.layers("encoder")].shape
            importance = jnp.zeros(shape) if tokens.importance is None else tokens.importance.reshape(shape)
            found.append(deserved(importance, experts).astype(jnp.int32))
        return run(*arguments, **options)

    with nn.intercept_methods(listen):
        apply(network, network.spec.exact_arch, source, shift_right(target, network.spec.pad_id))
    return found
