"""The table of hidden units: the weights of a layer's experts, which rows each one owns, and how
they are cut.

Axes: D embedding width · U hidden units of all experts · E experts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np


class Experts(NamedTuple):
    """The weights of a layer's experts: relu(x · w_inᵀ + b_in) · w_out + b_out."""

    w_in: jax.Array  # [U, D]
    b_in: jax.Array  # [U]
    w_out: jax.Array  # [U, D]
    b_out: jax.Array  # [E, D]


class ExpertRows(NamedTuple):
    """Which rows of the hidden table each expert owns; concrete or traced int32 [E]."""

    starts: jax.Array | np.ndarray
    widths: jax.Array | np.ndarray  # 0: the identity expert, negative: absent


class HiddenDropout(NamedTuple):
    """What drops hidden units."""

    rates: jax.Array  # [E]
    rng: jax.Array


def width_choices(widths: Sequence[int]) -> tuple[int, ...]:
    """The distinct widths of experts that compute, rising; (1,) where all of these are identity
    experts.
    """
    return tuple(sorted({width for width in widths if width > 0})) or (1,)
