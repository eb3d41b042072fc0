"""Optimizer and learning-rate schedule (docs/systems/automoe.md, training recipe)."""

import jax
import jax.numpy as jnp
import optax

from automoe_jax.config import TrainConfig


def schedule(train: TrainConfig) -> optax.Schedule:
    """Learning rate of an update: linear warm-up to the peak, then cosine to the final rate, or
    inverse square root.
    """
    warmup = optax.linear_schedule(
        train.warmup_learning_rate, train.learning_rate, train.warmup_steps
    )
    if train.schedule == "cosine":
        steps = max(train.steps - train.warmup_steps, 1)
        decay = optax.cosine_decay_schedule(
            train.learning_rate, steps, train.final_learning_rate / train.learning_rate
        )
    else:
        start = max(train.warmup_steps, 1)

        def decay(after_warmup: jax.Array) -> jax.Array:
            return train.learning_rate * jnp.sqrt(start / (start + jnp.maximum(after_warmup, 0)))

    return (
        optax.join_schedules([warmup, decay], [train.warmup_steps]) if train.warmup_steps else decay
    )


def optimizer(train: TrainConfig) -> optax.GradientTransformation:
    """Adam, with decoupled weight decay and clipping if set.

    A part of the SuperNet that the sampled sub-network does not use gets a zero gradient like any
    other gradient: its moments decay and the remaining momentum still moves it, so the state
    depends on the gradients alone.
    """
    parts = [optax.clip_by_global_norm(train.clip_norm)] if train.clip_norm else []
    parts.append(
        optax.adamw(
            schedule(train),
            b1=train.adam_b1,
            b2=train.adam_b2,
            eps=1e-8,
            weight_decay=train.weight_decay,
        )
    )
    return optax.chain(*parts)
