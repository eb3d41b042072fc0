"""Untrained weights of an architecture without JAX, for timing it.

Axes: D embedding width · Q qkv width · U hidden units of all experts · E experts · V vocabulary.
"""

from typing import Any

import numpy as np

from automoe_jax.arch import DECODER, ENCODER, Arch
from automoe_jax.export.settings import Settings, Weights, embed_dim

SCALE = 0.05  # standard deviation of every weight


def untrained(arch: Arch, settings: Settings, seed: int = 0) -> Weights:
    """Normal weights in the shapes of `model.Network.params`, for a translator or a classifier."""
    rng = np.random.default_rng(seed)
    layers = (*arch.encoder_experts, *arch.decoder_experts)
    routed = settings.router.declaration.gated and any(len(widths) > 1 for widths in layers)
    weights: dict[str, Any] = {ENCODER: _side(arch, settings, ENCODER, routed, rng)}
    if settings.classes:
        size = (settings.classes, embed_dim(arch, ENCODER))
        weights["classifier"] = {"table": _normal(rng, *size)}
    else:
        weights[DECODER] = _side(arch, settings, DECODER, routed, rng)
    return weights | _tables(arch, settings, rng)


def _tables(arch: Arch, settings: Settings, rng: np.random.Generator) -> dict[str, Any]:
    sides = (ENCODER,) if settings.classes else (ENCODER, DECODER)
    wanted = [(settings.input_table(side), side) for side in sides]
    if not settings.classes:
        wanted.append((settings.output_table, DECODER))
    widths: dict[str, tuple[int, int]] = {}
    for name, side in wanted:
        # a shared table is as wide as its widest side
        _, width = widths.get(name, (0, 0))
        widths[name] = (settings.side_size(side), max(width, embed_dim(arch, side)))
    return {name: {"table": _normal(rng, *size)} for name, size in widths.items()}


def _side(
    arch: Arch, settings: Settings, side: str, routed: bool, rng: np.random.Generator
) -> dict[str, Any]:
    d, experts = embed_dim(arch, side), getattr(arch, f"{side}_experts")
    layers = {
        f"layer_{i}": _layer(arch, side, i, widths, routed, rng) for i, widths in enumerate(experts)
    }
    return layers | ({"final_norm": _norm(d)} if settings.norm == "pre" else {})


def _layer(
    arch: Arch, side: str, i: int, widths: tuple[int, ...], routed: bool, rng: np.random.Generator
) -> dict[str, Any]:
    """The blocks of layer `i` that it does not skip."""
    d, q = embed_dim(arch, side), int(arch.qkv_dim)
    layer: dict[str, Any] = {}
    if getattr(arch, f"{side}_self_heads")[i]:
        attention = {"qkv": _projections(rng, d, 3, q), "out": _projections(rng, q, 1, d)}
        layer |= {"self_attention": attention, "self_attention_norm": _norm(d)}
    if widths:
        layer |= {"experts": _experts(rng, d, widths, routed), "experts_norm": _norm(d)}
    if side == ENCODER or not arch.decoder_cross_heads[i]:
        return layer
    memory = embed_dim(arch, ENCODER)
    attention = {
        "q": _projections(rng, d, 1, q),
        "kv": _projections(rng, memory, 2, q),
        "out": _projections(rng, q, 1, d),
    }
    return layer | {"cross_attention": attention, "cross_attention_norm": _norm(d)}


def _experts(
    rng: np.random.Generator, d: int, widths: tuple[int, ...], routed: bool
) -> dict[str, np.ndarray]:
    units, computing = sum(widths), sum(width > 0 for width in widths)
    experts: dict[str, np.ndarray] = {}
    if units:
        experts = {
            "w_in": _normal(rng, units, d),
            "b_in": _normal(rng, units),
            "w_out": _normal(rng, units, d),
            "b_out": _normal(rng, computing, d),
        }
    gate = {
        "router_kernel": _normal(rng, d, len(widths)),
        "router_bias": _normal(rng, len(widths)),
    }
    return experts | (gate if routed else {})


def _projections(rng: np.random.Generator, into: int, parts: int, out: int) -> dict[str, Any]:
    return {"kernel": _normal(rng, into, parts, out), "bias": _normal(rng, parts, out)}


def _norm(width: int) -> dict[str, np.ndarray]:
    return {"scale": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, SCALE, shape).astype(np.float32)
