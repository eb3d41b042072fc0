"""Losses over the target's tokens.

Axes: B sentences · T target tokens · V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sums(NamedTuple):
    """Sums over non-pad target tokens, float32 scalars; divide by `tokens` for means."""

    loss: jax.Array  # the training loss
    nll: jax.Array  # −log p of the reference, in nats
    tokens: jax.Array


def label_smoothed(logits: jax.Array, target: jax.Array, *, pad_id: int, smoothing: float) -> Sums:
    """(1 − ε) · nll + ε / V · Σ_v −log p_v for logits [B,T,V] float32 and target [B,T] (SPEC 1.3).

    The smoothing term is V · log Z − Σ logits, so that no second array [B,T,V] is needed.
    """
    real = (target != pad_id).astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    nll = log_z - jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    uniform = log_z - logits.mean(-1)
    return Sums(jnp.sum(((1 - smoothing) * nll + smoothing * uniform) * real), jnp.sum(nll * real), real.sum())


def distilled(logits: jax.Array, teacher_logits: jax.Array, target: jax.Array, *, pad_id: int) -> jax.Array:
    """Σ over non-pad tokens of the cross entropy with the teacher's distribution (in-place distillation), gradient to the student only."""
    real = (target != pad_id).astype(jnp.float32)
    teacher = jax.lax.stop_gradient(jax.nn.softmax(teacher_logits, axis=-1))
    per_token = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(teacher * logits, axis=-1)
    return jnp.sum(per_token * real)
