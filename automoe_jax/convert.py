"""Published HAT and AutoMoE weights, under fairseq's names, as a Network.

Axes: D embedding width · Q query width · F expert width · E experts · V vocabulary.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from automoe_jax.errors import UserError
from automoe_jax.model.network import Network, Spec
from automoe_jax.space import SearchSpace

# Entries that fairseq saves in addition to weights: buffers, versions, copies of the shared
# embedding.
_IGNORED = re.compile(
    r".*(version|_float_tensor|positions_table)$|decoder\.(embed_tokens\.weight|embed_out|output_projection\.weight)$"
)


def from_fairseq(
    weights: Mapping[str, np.ndarray], *, space: SearchSpace, pad_id: int = 1
) -> Network:
    """The SuperNet of `space` from weights under the original's names; a rearrangement, so it maps
    gradients too.

    Arrays keep their dtype. Embeddings must be shared by both sides, as in the published models.
    Raises `UserError` for a weight that is missing, is left over, or has another shape than `space`
    asks for.
    """
    reader = _Reader(
        {name.removeprefix("model."): np.asarray(array) for name, array in weights.items()}
    )
    table = reader.take("encoder.embed_tokens.weight")
    spec = Spec(space, len(table), pad_id)
    params: dict[str, Any] = {
        "embedding": {
            "table": _shaped(table, (len(table), max(spec.widths)), "encoder.embed_tokens.weight")
        }
    }
    for side in ("encoder", "decoder"):
        params[side] = {
            f"layer_{i}": _layer(reader, spec, side, i) for i in range(spec.layers(side))
        }
    left = sorted(
        name for name in reader.weights if name not in reader.taken and not _IGNORED.match(name)
    )
    if left:
        raise UserError(
            f"weight {left[0]!r} does not belong to this search space ({len(left)} such); use the"
            " space in which the weights were trained"
        )
    return Network(params, spec)


class _Reader:
    """Weights by name; records which were used."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights, self.taken = weights, set[str]()

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The array under a name; raises `UserError` if it is missing or shaped otherwise."""
        if name not in self.weights:
            raise UserError(
                f"weight {name!r} is missing; the weights must be those of a SuperNet with the"
                " space's layers and experts"
            )
        self.taken.add(name)
        return self.weights[name] if shape is None else _shaped(self.weights[name], shape, name)


def _shaped(array: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    if array.shape != shape:
        raise UserError(
            f"weight {name!r} has the shape {array.shape}, this search space needs {shape}"
        )
    return array


def _layer(reader: _Reader, spec: Spec, side: str, layer: int) -> dict[str, Any]:
    prefix, width = f"{side}.layers.{layer}.", getattr(spec.widths, side)
    out: dict[str, Any] = {
        "self_attention": {},
        "self_attention_norm": _norm(reader, prefix + "self_attn_layer_norm", width),
    }
    kernel, bias = _in_projection(reader, prefix + "self_attn", spec.space.qkv_dim, width)
    out["self_attention"]["qkv"] = {"kernel": kernel, "bias": bias}
    out["self_attention"]["out"] = _out_projection(
        reader, prefix + "self_attn", spec.space.qkv_dim, width
    )
    if side == "decoder":
        # The memory may be narrower than the decoder: the original's joint matrix then has the
        # wider of the two.
        kernel, bias = _in_projection(
            reader, prefix + "encoder_attn", spec.space.qkv_dim, max(spec.widths)
        )
        out["cross_attention"] = {
            "q": {"kernel": kernel[:width, :1], "bias": bias[:1]},
            "kv": {"kernel": kernel[: spec.widths.encoder, 1:], "bias": bias[1:]},
            "out": _out_projection(reader, prefix + "encoder_attn", spec.space.qkv_dim, width),
        }
        out["cross_attention_norm"] = _norm(reader, prefix + "encoder_attn_layer_norm", width)
    out["experts"] = _experts(reader, spec, prefix, len(spec.expert_widths(side, layer)), width)
    out["experts_norm"] = _norm(reader, prefix + "final_layer_norm", width)
    return out


def _norm(reader: _Reader, name: str, width: int) -> dict[str, np.ndarray]:
    return {
        "scale": reader.take(name + ".weight", (width,)),
        "bias": reader.take(name + ".bias", (width,)),
    }


def _in_projection(
    reader: _Reader, name: str, qkv_dim: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """[3Q, D] and [3Q] → kernel [D, 3, Q] and bias [3, Q]."""
    kernel = reader.take(name + ".in_proj_weight", (3 * qkv_dim, width))
    bias = reader.take(name + ".in_proj_bias", (3 * qkv_dim,))
    return np.moveaxis(kernel.reshape(3, qkv_dim, width), -1, 0), bias.reshape(3, qkv_dim)


def _out_projection(reader: _Reader, name: str, qkv_dim: int, width: int) -> dict[str, np.ndarray]:
    kernel = reader.take(name + ".out_proj.weight", (width, qkv_dim))
    return {
        "kernel": kernel.T[:, None, :],
        "bias": reader.take(name + ".out_proj.bias", (width,))[None, :],
    }


def _experts(
    reader: _Reader, spec: Spec, prefix: str, count: int, width: int
) -> dict[str, np.ndarray]:
    """Experts as rows of one table: [F, D] · E → [E·F, D]; a dense layer is its only expert."""
    ffn = spec.super_ffn_dim
    names = [
        (f"{prefix}switch_layer.experts.{e}.0", f"{prefix}switch_layer.experts.{e}.1")
        for e in range(count)
    ]
    if not spec.gated:
        names = [(prefix + "fc1", prefix + "fc2")]
    out = {
        "w_in": np.concatenate(
            [reader.take(first + ".weight", (ffn, width)) for first, _ in names]
        ),
        "b_in": np.concatenate([reader.take(first + ".bias", (ffn,)) for first, _ in names]),
        "w_out": np.concatenate(
            [reader.take(second + ".weight", (width, ffn)).T for _, second in names]
        ),
        "b_out": np.stack([reader.take(second + ".bias", (width,)) for _, second in names]),
    }
    if spec.gated:
        out["router_kernel"] = reader.take(f"{prefix}switch_layer.switch.weight", (count, width)).T
        out["router_bias"] = reader.take(f"{prefix}switch_layer.switch.bias", (count,))
    return out
