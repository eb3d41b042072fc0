"""Weights of a SuperNet's layer as a mixture of several sets (Mixture-of-Supernets, arXiv
2306.04845).

Each layer has M sets of weights. An architecture's layer computes with their weighted mean, whose
weights are the softmax of a linear function of the layer's genes, so that different architectures
have different weights. In the paper the function is an MLP of the whole architecture; genes of the
layer alone let candidates with the same encoder share its output. At the start all sets are equal.

Axes: M sets · G genes as numbers.
"""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Float32, PRNGKeyArray

if TYPE_CHECKING:
    from automoe_jax.model.layers import LayerGenes, LayerShape

NAME = "mixture"  # of its parameters among those of a layer


def mixed(params: dict[str, Any], shape: "LayerShape", genes: "LayerGenes") -> dict[str, Any]:
    """A layer's parameters [M, …] as those of one set; unchanged for a layer without a mixture."""
    if NAME not in params:
        return params
    sets = {name: part for name, part in params.items() if name != NAME}
    shares = jax.nn.softmax(gene_numbers(shape, genes) @ params[NAME]["kernel"])
    return jax.tree.map(lambda array: jnp.tensordot(shares, array, 1), sets)


def with_sets(
    params: dict[str, Any], shape: "LayerShape", count: int, key: PRNGKeyArray
) -> dict[str, Any]:
    """A layer's parameters, boxed with their logical axes, `count` times, and those of the
    mixture.
    """

    def repeated(box: nn.LogicallyPartitioned) -> nn.LogicallyPartitioned:
        value = jnp.broadcast_to(box.value, (count, *box.value.shape))
        return nn.LogicallyPartitioned(value, ("set", *box.names))

    sets = jax.tree.map(repeated, params, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata))
    kernel = jax.random.normal(key, (len(_most(shape)), count))
    return sets | {NAME: {"kernel": nn.LogicallyPartitioned(kernel, ("gene", "set"))}}


def gene_numbers(shape: "LayerShape", genes: "LayerGenes") -> Float32[Array, "G"]:
    """A layer's genes, each relative to its largest choice, and a constant; an absent expert has
    width 0.
    """
    widths = jnp.maximum(jnp.asarray(genes.experts.widths), 0)
    values = [1, genes.self_heads, genes.cross_heads, genes.experts.top_k, *widths]
    return jnp.stack([jnp.asarray(value, jnp.float32) for value in values]) / _most(shape)


def _most(shape: "LayerShape") -> Float[Array, "G"]:
    others = [1, shape.max_self_heads, max(shape.max_cross_heads, 1), shape.max_top_k]
    return jnp.array([*others, *shape.max_widths], jnp.float32)
