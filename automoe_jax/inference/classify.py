"""Classes of texts by a classifier, in batches of few shapes.

Axes: B sentences · S source tokens · C classes, the special ones before them included.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32

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
    check_rising("buckets", buckets)
    lengths = pairs.lengths()
    if len(lengths) and lengths.max() > buckets[-1]:
        raise UserError(
            f"a text of {lengths.max()} tokens exceeds the last bucket, {buckets[-1]}; cut it, or"
            " add a longer bucket"
        )
    places = np.searchsorted(np.asarray(buckets), lengths)
    classes = np.zeros(len(pairs), np.int64)
    for place, bucket in enumerate(buckets):
        members, rows = np.flatnonzero(places == place), rows_per_batch(bucket, tokens_per_batch)
        for start in range(0, len(members), rows):
            chosen = members[start : start + rows]
            source = assemble(pairs, np.resize(chosen, rows), bucket)["source"]
            classes[chosen] = np.asarray(most_probable(network, source))[: len(chosen)]
            progress(len(chosen))
    return classes


@jax.jit
def most_probable(network: Network, source: Int[Array, "B S"]) -> Int32[Array, "B"]:
    """The most probable class of each text of source [B,S], numbered like the targets."""
    unread = jnp.full((len(source), 1), network.spec.pad_id, jnp.int32)
    logits = forward(network, network.spec.exact_arch, source, unread)[:, 0, len(SPECIAL_IDS) :]
    return jnp.argmax(logits, axis=-1) + len(SPECIAL_IDS)
