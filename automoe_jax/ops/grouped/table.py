"""The table of hidden units: the weights of a layer's experts, which rows each one owns, and how they are cut.

Axes: D embedding width · U hidden units of all experts · E experts · C hidden units of a column block.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

MAX_BLOCK_COLUMNS = 512
MIN_BLOCK_COLUMNS = 64


class Experts(NamedTuple):
    """The weights of a layer's experts: relu(x · w_inᵀ + b_in) · w_out + b_out."""

    w_in: jax.Array  # [U, D]
    b_in: jax.Array  # [U]
    w_out: jax.Array  # [U, D]
    b_out: jax.Array  # [E, D]


class Owned(NamedTuple):
    """Which rows of the hidden table each expert owns; concrete or traced int32 [E]."""

    starts: jax.Array | np.ndarray
    widths: jax.Array | np.ndarray  # 0: the identity expert, negative: absent


class HiddenDropout(NamedTuple):
    """What drops hidden units."""

    rates: jax.Array  # [E]
    rng: jax.Array


class Blocks(NamedTuple):
    """The static sizes of the column loop, from the widths an expert can have."""

    columns: int  # C
    widest: int  # the largest width
    aligned: bool  # every width is a multiple of C

    @property
    def padded_widest(self) -> int:
        return -(-self.widest // self.columns) * self.columns


def column_blocks(widths: Sequence[int]) -> Blocks:
    """C for experts of these widths: their greatest common divisor, unless that is too fine to multiply well."""
    widths = [width for width in widths if width > 0] or [1]
    columns = math.gcd(*widths)
    while columns > MAX_BLOCK_COLUMNS and columns % 2 == 0:
        columns //= 2
    if columns < MIN_BLOCK_COLUMNS:
        columns = min(max(widths), MAX_BLOCK_COLUMNS)
    return Blocks(columns, max(widths), all(width % columns == 0 for width in widths))
