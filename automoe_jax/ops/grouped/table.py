"""Table of hidden units: the weights of a layer's experts, the rows of each expert, and slices of
them.

Axes: D embedding width · U hidden units of all experts · E experts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Experts(NamedTuple):
    """The weights of a layer's experts: relu(x · w_inᵀ + b_in) · w_out + b_out."""

    w_in: Float[Array, "U D"]
    b_in: Float[Array, "U"]
    w_out: Float[Array, "U D"]
    b_out: Float[Array, "E D"]


class ExpertRows(NamedTuple):
    """Rows of the hidden table that each expert owns; concrete or traced int32 [E]."""

    starts: Int[Array | np.ndarray, "E"]
    widths: Int[Array | np.ndarray, "E"]  # 0: the identity expert, negative: absent


class HiddenDropout(NamedTuple):
    """Rates and key of the dropout of hidden units."""

    rates: Float[Array, "E"]
    rng: PRNGKeyArray


class ExpertDropout(NamedTuple):
    """Dropout inside the experts of a layer, in training."""

    # of an expert's hidden units: [E], one for all, or None for 0
    hidden_rate: Float[Array, "E"] | float | None
    output_rate: float  # of an expert's output, before the gate
    rng: PRNGKeyArray
    # index of the hidden units among the parts of a mesh: parts drop different hidden units and
    # the same outputs
    part: Int[Array, ""] | None = None


class TableShape(NamedTuple):
    """Static facts about the table of a layer's experts."""

    max_widths: tuple[int, ...]  # [E] rows that belong to each expert, one expert after another
    ffn_dims: tuple[int, ...]  # the possible widths of an expert that computes (`width_choices`)
    exact: bool  # every expert uses all of its rows, as in a sub-Transformer


def width_choices(widths: Sequence[int]) -> tuple[int, ...]:
    """Distinct widths of computing experts, increasing; (1,) if all are identity experts."""
    return tuple(sorted({width for width in widths if width > 0})) or (1,)
