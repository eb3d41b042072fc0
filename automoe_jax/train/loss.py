"""Losses over the target's tokens.

Axes: B sentences · T target tokens · V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from automoe_jax.ops import vocabulary


class Sums(NamedTuple):
    """Sums over non-pad target tokens, float32 scalars; divide by `tokens` for means."""

    loss: Float32[Array, ""]  # the training loss
    nll: Float32[Array, ""]  # −log p of the reference, in nats
    tokens: Float32[Array, ""]


def label_smoothed(
    logits: Float32[Array, "B T V"], target: Int[Array, "B T"], *, pad_id: int, smoothing: float
) -> Sums:
    """The label-smoothed cross entropy of logits [B,T,V] float32 with target [B,T]; smoothing is
    uniform over the vocabulary.
    """
    real = (target != pad_id).astype(jnp.float32)
    return Sums(*vocabulary.label_smoothed(logits, target, real, smoothing), real.sum())


def projected_label_smoothed(
    hidden: Float[Array, "B T D"],
    table: Float[Array, "V D"],
    target: Int[Array, "B T"],
    *,
    pad_id: int,
    smoothing: float,
) -> Sums:
    """`label_smoothed` of the logits of hidden [B,T,D] over the vocabulary table [V,D], which are
    never stored all at once.
    """
    real = (target != pad_id).astype(jnp.float32)
    return Sums(
        *vocabulary.projected_cross_entropy(hidden, table, target, real, smoothing), real.sum()
    )


def distilled(
    logits: Float32[Array, "B T V"],
    teacher_logits: Float32[Array, "B T V"],
    target: Int[Array, "B T"],
    *,
    pad_id: int,
) -> Float32[Array, ""]:
    """Σ over non-pad tokens of the cross entropy with the teacher's distribution (in-place
    distillation), gradient to the student only.
    """
    real = (target != pad_id).astype(jnp.float32)
    teacher = jax.lax.stop_gradient(jax.nn.softmax(teacher_logits, axis=-1))
    per_token = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(teacher * logits, axis=-1)
    return jnp.sum(per_token * real)


def disagreement(
    hidden: Float[Array, "twice_B T D"],
    table: Float[Array, "V D"],
    target: Int[Array, "B T"],
    *,
    pad_id: int,
) -> Float32[Array, ""]:
    """Σ over non-pad tokens of the divergence between the predictions of the two halves of hidden
    [2B,T,D]; target [B,T] (THOR's consistency loss).
    """
    first, second = jnp.split(hidden, 2)
    return vocabulary.projected_divergence(
        first, second, table, (target != pad_id).astype(jnp.float32)
    )
