"""LayerNorms of a SuperNet with parameters for each embedding width (Slimmable Networks, arXiv
1812.08928, section 3: a normalisation of its own for each width).

With shared parameters, the leading entries of a LayerNorm serve every width. Here it has one set
of gains and biases for each choice of its side's embedding width, and an architecture uses those
of its own. At the start all sets are equal.

Axes: N choices of the embedding width · D the largest of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def is_norm(name: str) -> bool:
    """Whether the parameters of this name among those of a layer, or of a side, are a
    LayerNorm's.
    """
    return name.endswith("_norm")


def for_each_width(params: dict[str, Any], widths: int) -> dict[str, Any]:
    """Parameters, boxed with their logical axes, whose LayerNorms [D] occur once for each of the N
    widths: [N, D].
    """

    def repeated(box: nn.LogicallyPartitioned) -> nn.LogicallyPartitioned:
        value = jnp.broadcast_to(box.value, (widths, *box.value.shape))
        return nn.LogicallyPartitioned(value, ("width", *box.names))

    return _with_norms(repeated, params)


def of_width(params: dict[str, Any], number: int) -> dict[str, Any]:
    """Parameters whose LayerNorms [N, D] are those of the choice `number` of the width: [D]."""
    return _with_norms(lambda array: array[number], params)


def _with_norms(change: Callable[[Any], Any], params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with this change to every array, or box, of a LayerNorm."""
    return {
        name: jax.tree.map(change, part, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata))
        if is_norm(name)
        else part
        for name, part in params.items()
    }
