"""Projection to the vocabulary and its cross entropy, without storing all logits.

Axes: B sentences · T target tokens · D embedding width · V vocabulary · C chunks of target
positions.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Num

CHUNK_BYTES = 8 << 20  # of float32 logits at a time: fits the last-level cache of a CPU


class CrossEntropy(NamedTuple):
    """Sums over the real tokens, float32 scalars, in nats."""

    loss: Float32[Array, ""]  # label-smoothed
    nll: Float32[Array, ""]  # −log p of the reference


def project(
    hidden: Float[Array, "*batch D"], table: Float[Array, "V D"]
) -> Float32[Array, "*batch V"]:
    """Hidden states [..., D] · table [V, D] → logits [..., V] float32."""
    flat = hidden.reshape(-1, hidden.shape[-1])
    logits = jnp.matmul(flat, table.astype(hidden.dtype).T, preferred_element_type=jnp.float32)
    return logits.reshape(*hidden.shape[:-1], -1)


def label_smoothed(
    logits: Float32[Array, "B T V"],
    target: Int[Array, "B T"],
    real: Num[Array, "B T"],
    smoothing: float,
) -> CrossEntropy:
    """(1 − ε) · nll + ε / V · Σ_v −log p_v, summed where real [B,T]; logits [B,T,V] float32, target
    [B,T] (label smoothing; Szegedy et al. 2016, section 7).

    The smoothing term is V · log Z − Σ logits, so no second array [B,T,V] is needed.
    """
    log_z = jax.nn.logsumexp(logits, axis=-1)
    nll = log_z - jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    uniform = log_z - logits.mean(-1) if smoothing else nll
    return CrossEntropy(
        jnp.sum(((1 - smoothing) * nll + smoothing * uniform) * real), jnp.sum(nll * real)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def projected_cross_entropy(
    hidden: Float[Array, "B T D"],
    table: Float[Array, "V D"],
    target: Int[Array, "B T"],
    real: Float32[Array, "B T"],
    smoothing: float,
) -> CrossEntropy:
    """`label_smoothed(project(hidden, table), …)` in chunks of positions; only `loss` has a
    gradient.

    hidden [B,T,D], table [V,D], target and real (float32 0 or 1) [B,T]. The forward pass computes
    the gradient as well, chunk by chunk, so no logits are computed twice.
    """

    def chunk(total: CrossEntropy, inputs: tuple) -> tuple[CrossEntropy, None]:
        hidden, target, real = inputs
        return (
            jax.tree.map(
                jnp.add, total, label_smoothed(project(hidden, table), target, real, smoothing)
            ),
            None,
        )

    return jax.lax.scan(chunk, _zero(), _chunks((hidden, target, real), table))[0]


def projected_divergence(
    first: Float[Array, "B T D"],
    second: Float[Array, "B T D"],
    table: Float[Array, "V D"],
    real: Float32[Array, "B T"],
) -> Float32[Array, ""]:
    """Σ over the real tokens of ½ Σ_v (p − q)(log p − log q), for the predictions p and q of first
    and second [B,T,D].

    The symmetric Kullback–Leibler divergence of THOR (consistency regularisation), in nats and
    float32, in chunks of positions that are recomputed for the gradient. Gradients flow to both
    sides. table [V,D], real (float32 0 or 1) [B,T].
    """

    @jax.checkpoint
    def chunk(total: jax.Array, inputs: tuple) -> tuple[jax.Array, None]:
        first, second, real = inputs
        log_p, log_q = (jax.nn.log_softmax(project(hidden, table)) for hidden in (first, second))
        per_token = 0.5 * jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q), axis=-1)
        return total + jnp.sum(per_token * real), None

    return jax.lax.scan(chunk, jnp.zeros(()), _chunks((first, second, real), table))[0]


def projected_nll(
    hidden: Float[Array, "B T D"],
    table: Float[Array, "V D"],
    target: Int[Array, "B T"],
    real: Float32[Array, "B T"],
) -> Float32[Array, "B"]:
    """Σ over the real tokens of each sentence of −log p of the reference, float32 [B], in chunks of
    positions, with the automatic gradient.

    hidden [B,T,D], table [V,D], target and real (float32 0 or 1) [B,T].
    """

    def chunk(total: jax.Array, inputs: tuple) -> tuple[jax.Array, None]:
        hidden, target, real = inputs
        logits = project(hidden, table)
        nll = (
            jax.nn.logsumexp(logits, axis=-1)
            - jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        )
        return total + jnp.sum(nll * real, axis=1), None

    return jax.lax.scan(chunk, jnp.zeros(len(target)), _chunks((hidden, target, real), table))[0]


def _forward(
    hidden: jax.Array, table: jax.Array, target: jax.Array, real: jax.Array, smoothing: float
) -> tuple:
    def chunk(carry: tuple, inputs: tuple) -> tuple:
        total, d_table = carry
        hidden, target, real = inputs
        logits = project(hidden, table)
        log_z = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        sums = label_smoothed(logits, target, real, smoothing)
        # One pass: a scatter into zeros, as in the automatic gradient, costs two more.
        is_target = jnp.arange(len(table))[None, None] == target[..., None]
        wanted = jnp.where(is_target, 1 - smoothing, 0.0) + smoothing / len(table)
        d_logits = (jnp.exp(logits - log_z) - wanted) * real[..., None]
        flat = d_logits.reshape(-1, len(table)).astype(hidden.dtype)
        d_hidden = (flat @ table.astype(hidden.dtype)).reshape(hidden.shape)
        flat_hidden = hidden.reshape(-1, hidden.shape[-1])
        d_table = d_table + jnp.matmul(flat.T, flat_hidden, preferred_element_type=jnp.float32)
        return (jax.tree.map(jnp.add, total, sums), d_table), d_hidden

    d_chunks: jax.Array
    start = (_zero(), jnp.zeros(table.shape, jnp.float32))
    (total, d_table), d_chunks = jax.lax.scan(chunk, start, _chunks((hidden, target, real), table))
    d_hidden = jnp.moveaxis(d_chunks, 0, 1).reshape(hidden.shape)
    return total, (d_hidden, d_table.astype(table.dtype))


def _backward(smoothing: float, residuals: tuple, cotangent: CrossEntropy) -> tuple:
    d_hidden, d_table = residuals
    return d_hidden * cotangent.loss.astype(d_hidden.dtype), d_table * cotangent.loss, None, None


projected_cross_entropy.defvjp(_forward, _backward)


def _zero() -> CrossEntropy:
    return CrossEntropy(jnp.zeros(()), jnp.zeros(()))


def _chunks(arrays: tuple[jax.Array, ...], table: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays [B, T, …] split into chunks of positions, [C, B, T/C, …]; B, which may be sharded,
    is not split.
    """
    batch, length = arrays[0].shape[:2]
    least = -(-batch * length * len(table) * 4 // CHUNK_BYTES)
    count = next(parts for parts in range(min(least, length), length + 1) if length % parts == 0)
    return tuple(
        jnp.moveaxis(x.reshape(batch, count, length // count, *x.shape[2:]), 1, 0) for x in arrays
    )
