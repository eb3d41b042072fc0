"""A translator's weights as a model of CTranslate2, for the architectures that it can express.

CTranslate2 runs dense Transformers with one number of heads on each side, whose decoder attends to
the encoder's last layer. Its token texts are those of the tokenizer, in the order of their ids.
"""

import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from automoe_jax.arch import SIDES, Arch
from automoe_jax.errors import UserError
from automoe_jax.export.settings import Settings, Weights, embed_dim, sinusoids

ROWS = 1024  # positions; CTranslate2 translates no longer sentences


def to_ctranslate2(
    arch: Arch,
    settings: Settings,
    weights: Weights,
    source_pieces: Sequence[str],
    target_pieces: Sequence[str],
) -> dict[str, bytes]:
    """The files of a float32 model, which CTranslate2 quantises when it loads them.

    Raises `UserError` for an architecture that CTranslate2 cannot express, with the field in the
    way, and where the package is not installed.
    """
    spec = model_spec(arch, settings, weights)
    spec.register_source_vocabulary(list(source_pieces))
    spec.register_target_vocabulary(list(target_pieces))
    bos, eos, unk = (target_pieces[token] for token in (0, settings.eos_id, 3))
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = bos, eos, unk
    spec.config.decoder_start_token = eos
    spec.config.add_source_eos = True
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


def model_spec(arch: Arch, settings: Settings, weights: Weights) -> Any:
    """CTranslate2's `TransformerSpec` with these weights, without vocabularies; raises `UserError`
    as `to_ctranslate2` does.
    """
    for field, rule in _obstacles(arch, settings):
        raise UserError(f"CTranslate2 cannot express {field}: {rule}; export it with --format=onnx")
    specs = _specs()
    heads = {side: int(getattr(arch, f"{side}_self_heads")[0]) for side in SIDES}
    depths = (arch.encoder_layers, arch.decoder_layers)
    spec = specs.TransformerSpec.from_config(depths, 1, pre_norm=settings.norm == "pre")
    sides = {"encoder": spec.encoder, "decoder": spec.decoder}
    for side, theirs in sides.items():
        theirs.num_heads = np.int16(heads[side])
        width = embed_dim(arch, side)
        # Position p of a sentence is row p + pad + 1 of ours.
        first = settings.pad_id + 1
        table = sinusoids(first + ROWS, settings.super_dim(side), settings.pad_id)
        theirs.position_encodings.encodings = _copy(table[first:, :width])
        for i, layer in enumerate(theirs.layer):
            _fill_layer(layer, weights[side][f"layer_{i}"], side, int(arch.qkv_dim) // heads[side])
        if settings.norm == "pre":
            _norm(theirs.layer_norm, weights[side]["final_norm"])
    inputs = {
        side: _copy(weights[settings.input_table(side)]["table"][:, : embed_dim(arch, side)])
        for side in SIDES
    }
    spec.encoder.embeddings[0].weight = inputs["encoder"]
    spec.decoder.embeddings.weight = inputs["decoder"]
    output = weights[settings.output_table]["table"]
    spec.decoder.projection.weight = _copy(output[:, : embed_dim(arch, "decoder")])
    return spec


def _obstacles(arch: Arch, settings: Settings) -> Iterator[tuple[str, str]]:
    """Each field that CTranslate2 cannot express, and its rule."""
    if settings.classes:
        yield "config.task='classify'", "it translates only"
    record: Mapping[str, Any] = arch.to_dict()
    for side in SIDES:
        layers = record[side]["layers"]
        for i, layer in enumerate(layers):
            where = f"{side}.layers[{i}]"
            widths = layer["expert_ffn_dims"]
            if len(widths) != 1 or 0 in widths:
                yield f"{where}.expert_ffn_dims={widths}", "a layer has one expert with weights"
            if not layer["self_heads"]:
                yield f"{where}.self_heads=0", "no layer skips its attention"
            if layer["self_heads"] != layers[0]["self_heads"]:
                yield (
                    f"{where}.self_heads={layer['self_heads']}",
                    f"all layers of a side have the same, {layers[0]['self_heads']} here",
                )
            if layer.get("cross_heads", layers[0]["self_heads"]) != layers[0]["self_heads"]:
                yield (
                    f"{where}.cross_heads={layer['cross_heads']}",
                    f"they equal the decoder's self_heads, {layers[0]['self_heads']}",
                )
            if layer.get("cross_layers", 1) != 1:
                yield (
                    f"{where}.cross_layers={layer['cross_layers']}",
                    "the decoder attends to the encoder's last layer only",
                )


def _fill_layer(theirs: Any, ours: Mapping[str, Any], side: str, head_dim: int) -> None:
    attentions = [theirs.self_attention, *([theirs.attention] if side == "decoder" else [])]
    for one in attentions:  # by default it follows from the embedding width
        one.queries_scale = np.float32(head_dim**-0.5)
    attention = ours["self_attention"], ours["self_attention_norm"]
    _attention(theirs.self_attention, *attention, ("qkv", "out"))
    if side == "decoder":
        cross = ours["cross_attention"], ours["cross_attention_norm"]
        _attention(theirs.attention, *cross, ("q", "kv", "out"))
    experts, ffn = ours["experts"], theirs.ffn
    ffn.linear_0.weight, ffn.linear_0.bias = _copy(experts["w_in"]), _copy(experts["b_in"])
    ffn.linear_1.weight, ffn.linear_1.bias = _copy(experts["w_out"].T), _copy(experts["b_out"][0])
    _norm(ffn.layer_norm, ours["experts_norm"])


def _attention(
    theirs: Any, ours: Mapping[str, Any], norm: Mapping[str, Any], names: Sequence[str]
) -> None:
    for linear, name in zip(theirs.linear, names, strict=True):
        kernel, bias = np.asarray(ours[name]["kernel"]), np.asarray(ours[name]["bias"])
        linear.weight = _copy(kernel.reshape(kernel.shape[0], -1).T)
        linear.bias = _copy(bias.reshape(-1))
    _norm(theirs.layer_norm, norm)


def _norm(theirs: Any, ours: Mapping[str, Any]) -> None:
    theirs.gamma, theirs.beta = _copy(ours["scale"]), _copy(ours["bias"])


def _copy(array: Any) -> np.ndarray:
    """A contiguous copy, which CTranslate2 may change in place."""
    return np.array(array, np.float32, order="C")


def _specs() -> Any:
    try:
        from ctranslate2 import specs
    except ImportError:
        raise UserError(
            "--format=ctranslate2 writes with the package ctranslate2, which is not installed;"
            " install it with pip install 'automoe_jax[ctranslate2]'"
        ) from None
    return specs
