"""LayerNorms of a SuperNet with parameters for each embedding width (Slimmable Networks, arXiv
1812.08928, section 3: a normalisation of its own for each width).

With shared parameters, the leading entries of a LayerNorm serve every width. Here it has one set
of gains and biases for each choice of its side's embedding width, and an architecture uses those
of its own. At the start all sets are equal.

Axes: N choices of the embedding width · D the largest of them.
"""

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
    """A LayerNorm's parameters [D], boxed with their logical axes, once for each of the N widths:
    [N, D].
    """

    def repeated(box: nn.LogicallyPartitioned) -> nn.LogicallyPartitioned:
        value = jnp.broadcast_to(box.value, (widths, *box.value.shape))
        return nn.LogicallyPartitioned(value, ("width", *box.names))

    return jax.tree.map(repeated, params, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata))


def of_width(params: dict[str, Any], number: int) -> dict[str, Any]:
    """A LayerNorm's parameters [N, D] for the choice `number` of the embedding width."""
    return jax.tree.map(lambda array: array[number], params)
