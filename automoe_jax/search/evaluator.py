"""Scores of candidates: validation loss with weights inherited from the SuperNet.

A candidate runs two programs per batch, the encoder and the rest, dispatched without waiting. The
encoder's output depends only on its own genes and is cached for candidates that share them.

Axes: B sentences · S source tokens · T target tokens · D the SuperNet's encoder width.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.data.batching import Batch, TokenPairs, evaluation_batches
from automoe_jax.data.shards import put_on_devices
from automoe_jax.data.tokenizer import PAD
from automoe_jax.model.network import Network, Spec, Widths, param_shardings
from automoe_jax.model.transformer import (
    ForwardOptions,
    Memory,
    at_widths,
    decode,
    encode,
    output_table,
    shift_right,
)
from automoe_jax.ops.vocabulary import projected_nll
from automoe_jax.runtime.sharding import ONE_DEVICE, Placement, placement
from automoe_jax.search.stopping import FILLING, Cut, Recent, Scorer

PARTS = 2  # least number of parts of the text: after each, a candidate may be stopped
MEMORY_BYTES = 1 << 30  # bytes of cached encoder outputs, over all devices


def inherited_loss(supernet: Network, config: Config, validation: TokenPairs) -> Scorer:
    """scores(trials): mean −log p per token, in nats, of sub-networks over search.validation_tokens
    of the text.
    """
    tokens, placed = (
        config.supernet.tokens_per_batch // config.supernet.accumulate,
        placement(config),
    )
    batches = evaluation_batches(
        validation,
        config.data.buckets,
        tokens,
        config.search.validation_tokens,
        placed.sentence_parts,
    )
    return scorer(
        supernet,
        ForwardOptions(dtype=config.model.dtype),
        batches,
        tokens,
        config.search.stop_early,
        placed,
    )


def scorer(
    supernet: Network,
    forward_options: ForwardOptions,
    batches: list[Batch],
    tokens_per_part: int,
    standard_errors: float,
    placed: Placement = ONE_DEVICE,
    *,
    least_parts: int = PARTS,
    memory_bytes: int = MEMORY_BYTES,
) -> Scorer:
    """`inherited_loss` over these batches, in parts of at most about `tokens_per_part` padded
    target tokens.
    """
    padded = sum(batch["source"].size for batch in batches)
    cut, parts = cut_text(
        batches, max(least_parts, -(-padded // tokens_per_part)), placed.sentence_parts
    )
    resident = [[put_on_devices(batch, placed.batch) for batch in part] for part in parts]
    params = put_on_devices(supernet.params, param_shardings(supernet.spec, placed))
    look, judge = make_programs(supernet.spec, forward_options, placed)
    memories: Recent[Memory] = Recent(
        memory_bytes, lambda memory: sum(array.nbytes for array in memory)
    )

    def nll(arch: Arch, wanted: range) -> Callable[[], Float64[np.ndarray, "rows"]]:
        reader, rows = encoder_genes(supernet.spec, arch), []
        for part in wanted:
            for number, batch in enumerate(resident[part]):
                memory = memories.get((reader, part, number)) or memories.put(
                    (reader, part, number), look(params, batch["source"], reader)
                )
                rows.append(judge(params, batch["target"], memory, arch))
        return lambda: np.concatenate([np.asarray(row, np.float64) for row in jax.device_get(rows)])

    return Scorer(cut, nll, standard_errors)


def cut_text(
    batches: Sequence[Batch], parts: int, multiple_of: int = 1
) -> tuple[Cut, list[list[Batch]]]:
    """(the cut, for each part its batches, one for each bucket that has sentences left).

    batches: source [B,S] and target [B,T], where a row of PAD is padding. The sentences of a bucket
    are shuffled deterministically and distributed evenly, the earlier parts first; a bucket's
    batches have one shape, whose number of rows is a multiple of the given one. Fewer sentences
    give fewer parts.
    """
    strata: list[list[np.ndarray]] = [[] for _ in range(parts)]
    cut: list[list[Batch]] = [[] for _ in range(parts)]
    for stratum, bucket in enumerate(sorted({batch["source"].shape[1] for batch in batches})):
        whole = {
            side: np.concatenate(
                [batch[side] for batch in batches if batch["source"].shape[1] == bucket]
            )
            for side in batches[0]
        }
        sentences = np.random.default_rng(bucket).permutation(
            np.flatnonzero((whole["target"] != PAD).any(axis=1))
        )
        rows = -(-len(sentences) // (parts * multiple_of)) * multiple_of
        for part, dealt in enumerate(np.array_split(sentences, parts)):
            if len(dealt):
                missing = ((0, rows - len(dealt)), (0, 0))
                cut[part].append(
                    {
                        side: np.pad(tokens[dealt], missing, constant_values=PAD)
                        for side, tokens in whole.items()
                    }
                )
                strata[part].append(np.where(np.arange(rows) < len(dealt), stratum, FILLING))
    tokens = sum(int(np.sum(batch["target"] != PAD)) for batch in batches)
    return Cut(tuple(np.concatenate(part) for part in strata if part), tokens), [
        part for part in cut if part
    ]


def encoder_genes(spec: Spec, arch: Arch) -> Arch:
    """`arch` with the decoder of the smallest architecture: equal for architectures with equal
    encoders.
    """
    own = {name: getattr(arch, name) for name in Arch._fields if name.startswith("encoder_")}
    return _smallest(spec)._replace(**own)


def make_programs(
    spec: Spec, forward_options: ForwardOptions, placed: Placement = ONE_DEVICE
) -> tuple[Callable[..., Memory], Callable[..., Float[Array, "B"]]]:
    """look(params, source, arch) → memory, and judge(params, target, memory, arch) → Σ −log p of
    each sentence [B].

    Each is jitted once for all architectures, without dropout; the memory is as wide as the
    SuperNet's, [B, n·S, D].
    """
    widest = spec.super_widths.encoder

    def look(params: dict[str, Any], source: Int[Array, "B S"], arch: Arch) -> Memory:
        def branch(widths: Widths) -> Memory:
            memory = encode(
                Network(params, spec), widths, arch, source, forward_options=forward_options
            ).memory
            return memory._replace(
                layers=jnp.pad(memory.layers, ((0, 0), (0, 0), (0, widest - widths.encoder)))
            )

        choices = [
            functools.partial(branch, Widths(width, spec.super_widths.decoder))
            for width in spec.space.encoder_embed_dims
        ]
        return jax.lax.switch(
            jnp.argmax(jnp.array(spec.space.encoder_embed_dims) == arch.encoder_embed_dim), choices
        )

    def judge(
        params: dict[str, Any], target: Int[Array, "B T"], memory: Memory, arch: Arch
    ) -> Float[Array, "B"]:
        def branch(widths: Widths) -> Float[Array, "B"]:
            network, seen = (
                Network(params, spec),
                memory._replace(layers=memory.layers[..., : widths.encoder]),
            )
            hidden = decode(
                network,
                widths,
                arch,
                shift_right(target, spec.pad_id),
                seen,
                forward_options=forward_options,
            ).hidden
            return projected_nll(
                hidden,
                output_table(network, widths),
                target,
                (target != spec.pad_id).astype(jnp.float32),
            )

        return at_widths(spec, arch, branch)

    everywhere, sentences, own = placed.everywhere, placed.batch, param_shardings(spec, placed)
    return (
        placed.jit(look, (own, sentences, everywhere), sentences),
        placed.jit(judge, (own, sentences, sentences, everywhere), everywhere),
    )


@functools.lru_cache(maxsize=8)
def _smallest(spec: Spec) -> Arch:
    return spec.space.smallest()
