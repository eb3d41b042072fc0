"""Extraction of a sub-Transformer from a SuperNet, by slicing only, and its inverse. Where the
SuperNet mixes several sets of weights, the sub-Transformer has the mixture; where its LayerNorms
differ by embedding width, those of its own.

Axes: U hidden units of all experts · E experts · D embedding width.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from automoe_jax.arch import SIDES, Arch
from automoe_jax.model.layers import LayerShape
from automoe_jax.model.network import Network, abstract, logical_axes, narrow
from automoe_jax.model.transformer import final_norm_params, layer_params


def extract(network: Network, arch: Arch) -> Network:
    """The sub-Transformer `arch` of a SuperNet at its own shapes, with the SuperNet's weights.

    Without a mixture of weights a linear rearrangement, which maps gradients and optimizer moments
    too. LayerNorms of other embedding widths are left out, like everything that `arch` does not
    use. Raises `UserError` if the SuperNet does not contain `arch`.
    """
    spec = network.spec
    spec.check(arch)
    if spec.arch is not None:
        return network
    cut = dataclasses.replace(spec, arch=arch, weight_sets=1, width_norms=False)
    axes = logical_axes(spec)
    params: dict[str, Any] = {
        name: narrow(network.params[name], axes[name], {"embed": table.width})
        for name, table in cut.tables().items()
    }
    for side in SIDES:
        params[side] = {}
        for i in range(cut.layers(side)):
            layer = dict(layer_params(network, side, i, cut.widths, arch))
            layer["experts"] = _cut_experts(
                layer["experts"], cut.expert_widths(side, i), spec.super_ffn_dim, cut.gated
            )
            skipped = _skipped(cut.layer_shape(side, i, cut.widths))
            params[side][f"layer_{i}"] = {
                name: part for name, part in layer.items() if part and name not in skipped
            }
        if "final_norm" in network.params[side] and cut.layers(side):
            params[side]["final_norm"] = final_norm_params(network, side, cut.widths)
    return Network(params, cut)


def insert(network: Network) -> Network:
    """A SuperNet with the weights of a sub-Transformer where that uses them, and 0 elsewhere: the
    transpose of `extract`. Under its architecture it trains as the sub-Transformer does.
    """
    arch = network.spec.exact_arch
    whole = abstract(dataclasses.replace(network.spec, arch=None))

    def cut(params: dict[str, Any]) -> dict[str, Any]:
        return extract(Network(params, whole.spec), arch).params

    (params,) = jax.jit(jax.linear_transpose(cut, whole.params))(network.params)
    return Network(params, whole.spec)


def _skipped(shape: LayerShape) -> set[str]:
    """The parameters of blocks that a layer does not have."""
    blocks = {
        "self_attention": shape.max_self_heads,
        "cross_attention": shape.max_cross_heads,
        "experts": len(shape.max_widths),
    }
    skipped = [name for name, size in blocks.items() if not size]
    return {*skipped, *(f"{name}_norm" for name in skipped)}


def _cut_experts(
    experts: dict[str, Any], widths: tuple[int, ...], super_ffn_dim: int, gated: bool
) -> dict[str, Any]:
    """The leading rows of each expert's part of the hidden table [U, D], and the router's first
    columns; nothing of a skipped FFN.
    """
    if not widths:
        return {}
    rows = np.concatenate(
        [e * super_ffn_dim + np.arange(width) for e, width in enumerate(widths)]
    ).astype(np.int32)
    cut = {name: experts[name][rows] for name in ("b_in", "w_in", "w_out")} if len(rows) else {}
    if len(rows):
        cut["b_out"] = experts["b_out"][sum(width == 0 for width in widths) : len(widths)]
    if gated:
        cut |= {
            "router_bias": experts["router_bias"][: len(widths)],
            "router_kernel": experts["router_kernel"][:, : len(widths)],
        }
    return cut
