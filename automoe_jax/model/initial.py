"""Initial weights.

Matrices are uniform with Glorot and Bengio's variance, as in the code of AutoMoE and HAT. For the
feed-forward experts the setting `config.model.ffn_init` chooses among the schemes of the originals,
since the scale of this branch decides how a post-norm network starts to learn.

Axes: D embedding width · F width of an expert · U hidden units of all experts · E experts.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.registry import Registry

Initializer = Callable[..., jax.Array]

# Switch Transformer, section 2.4: the variance of a weight is this scale divided by its fan-in.
SWITCH_SCALE = 0.1


def xavier(fan_in: int, fan_out: int, gain: float = 1.0) -> Initializer:
    """Uniform with variance 2 · gain² / (fan_in + fan_out), for an array of any shape."""
    limit = gain * (6.0 / (fan_in + fan_out)) ** 0.5

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return draw


class ExpertInitializers(NamedTuple):
    """Initializers of a layer's experts: w_in and w_out [U, D], b_in [U], b_out [E, D]."""

    w_in: Initializer
    b_in: Initializer
    w_out: Initializer
    b_out: Initializer


def xavier_experts(width: int, experts: Sequence[int]) -> ExpertInitializers:
    """Both matrices of each expert U(±√(6 / (D + F))), biases 0: AutoMoE and HAT."""
    limits = [(6.0 / (units + width)) ** 0.5 for units in experts]
    matrix = _uniform(_rows(limits, experts))
    return ExpertInitializers(matrix, jax.nn.initializers.zeros, matrix, jax.nn.initializers.zeros)


def linear_experts(width: int, experts: Sequence[int]) -> ExpertInitializers:
    """Matrices and biases U(±1/√fan_in), the default of PyTorch's linear layers: THOR."""
    into, out = width**-0.5, [units**-0.5 for units in experts]
    return ExpertInitializers(
        _uniform(_rows([into] * len(experts), experts)),
        _uniform(np.full(sum(experts), into, np.float32)),
        _uniform(_rows(out, experts)),
        _uniform(np.asarray(out, np.float32)[:, None]),
    )


def truncated_normal_experts(width: int, experts: Sequence[int]) -> ExpertInitializers:
    """Matrices normal with standard deviation √(0.1 / fan_in), cut at two of them; biases 0: Switch
    Transformer, section 2.4.
    """
    into, out = (SWITCH_SCALE / width) ** 0.5, [(SWITCH_SCALE / units) ** 0.5 for units in experts]
    return ExpertInitializers(
        _truncated_normal(_rows([into] * len(experts), experts)),
        jax.nn.initializers.zeros,
        _truncated_normal(_rows(out, experts)),
        jax.nn.initializers.zeros,
    )


def _rows(values: Sequence[float], experts: Sequence[int]) -> np.ndarray:
    """A value for each expert, repeated for its rows of the hidden table: [U, 1]."""
    return np.repeat(np.asarray(values, np.float32), experts)[:, None]


def _uniform(limits: np.ndarray) -> Initializer:
    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1, 1) * limits

    return draw


def _truncated_normal(deviations: np.ndarray) -> Initializer:
    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.truncated_normal(key, -2, 2, shape, dtype) * deviations

    return draw


# (D, the widths F of the experts that compute) → their initializers
FFN_INITS: Registry[Callable[[int, Sequence[int]], ExpertInitializers]] = Registry(
    "config.model.ffn_init",
    {
        "xavier": xavier_experts,
        "linear": linear_experts,
        "truncated_normal": truncated_normal_experts,
    },
)
