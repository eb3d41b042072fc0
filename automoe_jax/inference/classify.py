"""Classes of texts by a classifier with JAX, in batches of few shapes.

Axes: B sentences · S source tokens · C classes.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int

from automoe_jax.data.batching import TokenPairs, assemble, rows_per_batch
from automoe_jax.data.tokenizer import SPECIAL_IDS
from automoe_jax.errors import UserError, check_rising
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import forward


def classify(
    network: Network,
    pairs: TokenPairs,
    *,
    buckets: Sequence[int],
    tokens_per_batch: int,
    progress: Callable[[int], object] = lambda _: None,
) -> Int[np.ndarray, "pairs"]:
    """[pairs]: the most probable class of each text, numbered like the targets of `pairs`;
    `progress` is called with the number of finished texts.
    """
    found = probabilities(
        network, pairs, buckets=buckets, tokens_per_batch=tokens_per_batch, progress=progress
    )
    return found.argmax(axis=1) + len(SPECIAL_IDS)


def probabilities(
    network: Network,
    pairs: TokenPairs,
    *,
    buckets: Sequence[int],
    tokens_per_batch: int,
    progress: Callable[[int], object] = lambda _: None,
) -> Float32[np.ndarray, "pairs C"]:
    """[pairs, C]: the probability of each class of each text, without the special ones; `progress`
    is called with the number of finished texts.
    """
    check_rising("buckets", buckets)
    lengths = pairs.lengths()
    if len(lengths) and lengths.max() > buckets[-1]:
        raise UserError(
            f"a text of {lengths.max()} tokens exceeds the last bucket, {buckets[-1]}; cut it, or"
            " add a longer bucket"
        )
    places = np.searchsorted(np.asarray(buckets), lengths)
    by_text = np.zeros((len(pairs), network.spec.classes - len(SPECIAL_IDS)), np.float32)
    for place, bucket in enumerate(buckets):
        members, rows = np.flatnonzero(places == place), rows_per_batch(bucket, tokens_per_batch)
        for start in range(0, len(members), rows):
            chosen = members[start : start + rows]
            source = assemble(pairs, np.resize(chosen, rows), bucket)["source"]
            by_text[chosen] = np.asarray(batch_probabilities(network, source))[: len(chosen)]
            progress(len(chosen))
    return by_text


@jax.jit
def batch_probabilities(network: Network, source: Int[Array, "B S"]) -> Float32[Array, "B C"]:
    """The probability of each class of each text of source [B,S]."""
    unread = jnp.full((len(source), 1), network.spec.pad_id, jnp.int32)
    logits = forward(network, network.spec.exact_arch, source, unread)[:, 0, len(SPECIAL_IDS) :]
    return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
