"""Published HAT and AutoMoE weights, under fairseq's names, as a Network.

Axes: D embedding width · Q query width · F expert width · E experts · V vocabulary.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from automoe_jax.arch import SIDES
from automoe_jax.config import SHARED_EMBEDDINGS
from automoe_jax.errors import UserError
from automoe_jax.model.network import Network, Spec
from automoe_jax.space import SearchSpace

# Entries that fairseq saves in addition to weights: buffers and versions.
_IGNORED = re.compile(r".*(version|_float_tensor|positions_table)$")
_SOURCE, _TARGET = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
_OUTPUTS = ("decoder.embed_out", "decoder.output_projection.weight")  # of old and new versions
_FINAL_NORM = "{}.layer_norm.weight"
_LAYOUT = re.compile(
    r"(encoder|decoder)\.embed_tokens\.weight|decoder\.(embed_out|output_projection\.weight)"
    r"|(encoder|decoder)\.layer_norm\.(weight|bias)"
    r"|(encoder|decoder)\.layers\.\d+\.("
    r"(self_attn|encoder_attn)\.(in_proj_weight|in_proj_bias|out_proj\.(weight|bias))"
    r"|(self_attn|encoder_attn|final)_layer_norm\.(weight|bias)"
    r"|fc[12]\.(weight|bias)"
    r"|switch_layer\.(switch|experts\.\d+\.[01])\.(weight|bias))"
)


def check_layout(names: Iterable[str]) -> None:
    """Raises `UserError` for the first of fairseq's names of weights that no `Network` has."""
    for name in names:
        plain = name.removeprefix("model.")
        if not _LAYOUT.fullmatch(plain) and not _IGNORED.match(plain):
            raise UserError(
                f"the checkpoint's weight {name!r} has no place in a model of HAT or AutoMoE; only"
                " their checkpoints, with sinusoidal positions, can be converted"
            )


def from_fairseq(
    weights: Mapping[str, Shaped[np.ndarray, "..."]],
    *,
    space: SearchSpace,
    pad_id: int = 1,
    shared_embeddings: str | None = None,
) -> Network:
    """The SuperNet of `space` from weights under the original's names; a rearrangement, so it maps
    gradients too.

    Arrays keep their dtype. fairseq saves a shared table under each of its names. Unless
    `shared_embeddings` is given, as in `Spec`, tables with equal values are shared. A LayerNorm
    after the last layer of a side (`layer_norm`) is that of pre-norm. Raises
    `UserError` for a weight that is missing, is left over, has another shape than `space` asks for,
    or differs from the table that it is said to share.
    """
    reader = _Reader(
        {name.removeprefix("model."): np.asarray(array) for name, array in weights.items()}
    )
    shared, names = _tables(reader, shared_embeddings)
    sizes = {table: len(reader.take(name)) for table, name in names.items()}
    spec = Spec(
        space,
        sizes["embedding"],
        pad_id,
        norm="pre" if any(_FINAL_NORM.format(side) in reader.weights for side in SIDES) else "post",
        shared_embeddings=shared,
        target_vocab_size=sizes.get("target_embedding", 0),
    )
    params: dict[str, Any] = {
        table: {"table": reader.take(names[table], (shape.rows, shape.width))}
        for table, shape in spec.tables().items()
    }
    for side in SIDES:
        params[side] = {
            f"layer_{i}": _layer(reader, spec, side, i) for i in range(spec.layers(side))
        }
        if spec.norm == "pre":
            name = _FINAL_NORM.format(side).removesuffix(".weight")
            params[side]["final_norm"] = _norm(reader, name, getattr(spec.widths, side))
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

    def __init__(self, weights: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
        self.weights, self.taken = weights, set[str]()

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> Shaped[np.ndarray, "..."]:
        """The array under a name; raises `UserError` if it is missing or shaped otherwise."""
        if name not in self.weights:
            raise UserError(
                f"weight {name!r} is missing; the weights must be those of a SuperNet with the"
                " space's layers and experts"
            )
        self.taken.add(name)
        return self.weights[name] if shape is None else _shaped(self.weights[name], shape, name)


def _tables(reader: _Reader, wanted: str | None) -> tuple[str, dict[str, str]]:
    """Sharing of the tables, and fairseq's name of each table that a Network then has."""
    for name in _OUTPUTS:
        if name in reader.weights and not _same(reader, name, _OUTPUTS[0]):
            raise UserError(f"weights {_OUTPUTS[0]!r} and {name!r} differ; keep the one in use")
    output = next((name for name in _OUTPUTS if name in reader.weights), _TARGET)
    tied = _TARGET if _TARGET in reader.weights else _SOURCE
    if not _same(reader, output, tied):
        sharing, why = "none", f"weight {output!r} differs from {tied!r}"
    elif not _same(reader, _TARGET, _SOURCE):
        sharing, why = "decoder", f"weight {_TARGET!r} differs from {_SOURCE!r}"
    else:
        sharing, why = "all", ""
    shared = sharing if wanted is None else wanted
    if shared not in SHARED_EMBEDDINGS:
        raise UserError(
            f"shared_embeddings={shared!r} must be one of {', '.join(SHARED_EMBEDDINGS)}, or None"
        )
    if SHARED_EMBEDDINGS.index(shared) < SHARED_EMBEDDINGS.index(sharing):
        raise UserError(
            f"shared_embeddings={shared!r}, but {why}; leave it out, or set {sharing!r}"
        )
    reader.taken.update({_TARGET, *_OUTPUTS} & reader.weights.keys())
    names = {"embedding": _SOURCE, "target_embedding": _TARGET, "output": output}
    return shared, dict(list(names.items())[: 1 + SHARED_EMBEDDINGS.index(shared)])


def _same(reader: _Reader, name: str, other: str) -> bool:
    """Whether two entries hold one table, as far as both are there."""
    if name not in reader.weights or other not in reader.weights:
        return True
    return np.array_equal(reader.weights[name], reader.weights[other])


def _shaped(
    array: Shaped[np.ndarray, "..."], shape: tuple[int, ...], name: str
) -> Shaped[np.ndarray, "..."]:
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


def _norm(reader: _Reader, name: str, width: int) -> dict[str, Shaped[np.ndarray, "D"]]:
    return {
        "scale": reader.take(name + ".weight", (width,)),
        "bias": reader.take(name + ".bias", (width,)),
    }


def _in_projection(
    reader: _Reader, name: str, qkv_dim: int, width: int
) -> tuple[Shaped[np.ndarray, "D 3 Q"], Shaped[np.ndarray, "3 Q"]]:
    """[3Q, D] and [3Q] → kernel [D, 3, Q] and bias [3, Q]."""
    kernel = reader.take(name + ".in_proj_weight", (3 * qkv_dim, width))
    bias = reader.take(name + ".in_proj_bias", (3 * qkv_dim,))
    return np.moveaxis(kernel.reshape(3, qkv_dim, width), -1, 0), bias.reshape(3, qkv_dim)


def _out_projection(
    reader: _Reader, name: str, qkv_dim: int, width: int
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """[D, Q] and [D] → kernel [Q, 1, D] and bias [1, D]."""
    kernel = reader.take(name + ".out_proj.weight", (width, qkv_dim))
    return {
        "kernel": kernel.T[:, None, :],
        "bias": reader.take(name + ".out_proj.bias", (width,))[None, :],
    }


def _experts(
    reader: _Reader, spec: Spec, prefix: str, count: int, width: int
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Experts as rows of one table: [F, D] · E → [E·F, D]; a dense layer is its only expert.

    A router of one expert always gives it the probability 1: where only one of the originals and
    the Network have it, it is left out or zero.
    """
    ffn, router = spec.super_ffn_dim, f"{prefix}switch_layer.switch."
    dense = count == 1 and prefix + "fc1.weight" in reader.weights
    names = [
        (f"{prefix}switch_layer.experts.{e}.0", f"{prefix}switch_layer.experts.{e}.1")
        for e in range(count)
    ]
    if dense or (router + "weight" not in reader.weights and not spec.gated):
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
    if not spec.gated:
        reader.taken |= {router + "weight", router + "bias"}
    elif dense:
        dtype = out["w_in"].dtype
        out |= {"router_kernel": np.zeros((width, 1), dtype), "router_bias": np.zeros(1, dtype)}
    else:
        out["router_kernel"] = reader.take(router + "weight", (count, width)).T
        out["router_bias"] = reader.take(router + "bias", (count,))
    return out
