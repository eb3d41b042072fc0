"""fairseq's settings of a HAT or AutoMoE model → search space and architecture.

A checkpoint holds the settings of its training as an `argparse.Namespace`. A SuperNet's name the
choices of each gene; a sub-Transformer was trained inside a SuperNet's arrays, and its settings
name its own genes. AutoMoE adds the experts to HAT's settings.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from automoe_jax import arch as arch_lib
from automoe_jax.arch import SIDES, Arch
from automoe_jax.data.bpe import Words
from automoe_jax.errors import UserError
from automoe_jax.space import SearchSpace

# Settings that change what the model computes, with the only value that is converted. A setting
# that a checkpoint lacks had this value.
_FIXED: dict[str, Any] = {
    "activation_fn": "relu",
    "adaptive_input": False,
    "adaptive_softmax_cutoff": None,
    "decoder_learned_pos": False,
    "encoder_learned_pos": False,
    "no_decoder_final_norm": False,
    "no_token_positional_embeddings": False,
    "vocab_original_scaling": False,
}
_FIXED |= {
    f"{side}_{name}": value
    for side in SIDES
    for name, value in {
        "drop_tokens": False,
        "expert_all_fixed_num_experts": [],
        "expert_type": "switch",
        "is_first_expert_identity": False,
        "is_scale_prob": True,
    }.items()
}
# How the originals' scripts turn lines into words, by the folder of their data.
WORDS = {
    "wmt16_en_de": Words(moses=True),
    "wmt14_en_fr": Words(moses=True, dashes=True, punctuation=True),
    "wmt19_en_de": Words(moses=True, dashes=True, punctuation=True),
    "iwslt14_de_en": Words(moses=True, lowercase=True),
    "words": Words(),
}
# Number of encoder layers that cross attention sees, by the originals' code for it.
_CROSS_LAYERS = {-1: 1, 1: 2, 2: 3}


class Model(NamedTuple):
    """A model of the originals."""

    space: SearchSpace
    arch: Arch | None  # of a sub-Transformer
    equal_experts: bool  # the original gives all experts of a layer one width


def model_of(arguments: argparse.Namespace) -> Model:
    """The search space, and of a sub-Transformer its architecture.

    Raises `UserError` with the setting that no `Network` has.
    """
    _check(arguments)
    if _get(arguments, "train_subtransformer", False):
        arch = _arch(arguments)
        return Model(_space_around(arguments, arch), arch, equal_experts=False)
    space = _space(arguments)
    equal = all(len(_given(arguments, side, "each_expert_ffn_dim")) == 1 for side in SIDES)
    return Model(space, None, equal_experts=equal and space.is_routed)


def words_of(arguments: argparse.Namespace, wanted: str | None) -> Words:
    """How lines become words: by the recipe's name, or that of the folder that the model's data
    was in; raises `UserError` for a recipe that is not known.
    """
    data = _get(arguments, "data", "")
    folder = os.path.basename(str(data[0] if isinstance(data, list) else data).rstrip("/"))
    name = folder if wanted is None else wanted
    if name not in WORDS:
        raise UserError(
            f"--words={wanted} must be one of {', '.join(WORDS)}"
            if wanted is not None
            else f"the model's data was in a folder {folder!r}, whose preparation is not known;"
            f" name how its lines became words with --words, one of {', '.join(WORDS)}"
        )
    return WORDS[name]


def languages_of(arguments: argparse.Namespace, given: Sequence[str | None]) -> tuple[str, str]:
    """Codes of source and target: those `given`, otherwise the checkpoint's; raises `UserError`
    where neither names them.
    """
    own = (_get(arguments, "source_lang", None), _get(arguments, "target_lang", None))
    source, target = (one or other for one, other in zip(given, own, strict=True))
    for side, found in (("source", source), ("target", target)):
        if not found:
            raise UserError(
                f"the checkpoint does not name its {side} language; name it with"
                f" --{side}_language, as in --{side}_language=de"
            )
    return source, target


def _get(arguments: argparse.Namespace, name: str, default: Any) -> Any:
    return getattr(arguments, name, default)


def _check(arguments: argparse.Namespace) -> None:
    """Raises `UserError` for a setting that no `Network` has."""
    for name, only in _FIXED.items():
        value = _get(arguments, name, only)
        if value != only:
            raise UserError(
                f"the checkpoint's setting {name}={value!r} is not supported; only models with"
                f" {name}={only!r} can be converted"
            )
    _check_norm(arguments)
    for side in SIDES:
        for part in ("mha", "ffn"):
            name = f"{side}_drop_{part}_sublayer"
            if 0 in _get(arguments, name, [1]):
                raise UserError(
                    f"the checkpoint's setting {name}={_get(arguments, name, [1])} leaves out parts"
                    " of layers, which is not supported"
                )
        _require(arguments, f"{side}_embed_dim", f"{side}_ffn_embed_dim", f"{side}_layers")


def _check_norm(arguments: argparse.Namespace) -> None:
    """Raises `UserError` for pre-norm on one side only, and where decoder layers see the states of
    several encoder layers: the original then normalises those of the last one only.
    """
    names = [f"{side}_normalize_before" for side in SIDES]
    encoder, decoder = (bool(_get(arguments, name, False)) for name in names)
    if encoder != decoder:
        raise UserError(
            f"the checkpoint's settings {names[0]}={encoder} and {names[1]}={decoder} differ, which"
            " is not supported; only models with pre-norm on both sides or none can be converted"
        )
    sub = _get(arguments, "train_subtransformer", False)
    cross = f"decoder_arbitrary_ende_attn_{'all_subtransformer' if sub else 'choice'}"
    seen = list(_get(arguments, cross, None) or [-1])
    if encoder and set(seen) != {-1}:
        raise UserError(
            f"the checkpoint's setting {cross}={seen} is not supported with {names[0]}=True; only"
            " models with pre-norm whose cross attention sees the last encoder layer (-1) can be"
            " converted"
        )


def _require(arguments: argparse.Namespace, *names: str) -> list[Any]:
    """The values of these settings; raises `UserError` for the first that is missing."""
    for name in names:
        if _get(arguments, name, None) is None:
            raise UserError(
                f"the checkpoint's settings lack {name}; it must be one of HAT's or AutoMoE's"
            )
    return [_get(arguments, name, None) for name in names]


def _given(arguments: argparse.Namespace, side: str, name: str) -> list[int]:
    """A list of AutoMoE's, [1] in HAT's checkpoints."""
    return list(_get(arguments, f"{side}_{name}", None) or [1])


def _space(arguments: argparse.Namespace) -> SearchSpace:
    """The space of a SuperNet."""
    widths = {width for side in SIDES for width in _choice(arguments, f"{side}_ffn_embed_dim")}
    if any(0 in _given(arguments, side, "std_vs_dummy_experts") for side in SIDES):
        widths.add(0)  # the identity expert
    cross = _choice(arguments, "decoder_arbitrary_ende_attn")
    return _checked_space(
        arguments,
        encoder_embed_dims=_choice(arguments, "encoder_embed"),
        decoder_embed_dims=_choice(arguments, "decoder_embed"),
        encoder_layers=_choice(arguments, "encoder_layer_num"),
        decoder_layers=_choice(arguments, "decoder_layer_num"),
        encoder_self_heads=_choice(arguments, "encoder_self_attention_heads"),
        decoder_self_heads=_choice(arguments, "decoder_self_attention_heads"),
        decoder_cross_heads=_choice(arguments, "decoder_ende_attention_heads"),
        cross_layers=[_cross_layers(code) for code in cross],
        encoder_experts=_given(arguments, "encoder", "n_experts"),
        decoder_experts=_given(arguments, "decoder", "n_experts"),
        expert_ffn_dims=widths,
        top_k=[k for side in SIDES for k in _given(arguments, side, "num_experts_to_route")],
    )


def _choice(arguments: argparse.Namespace, name: str) -> list[int]:
    (choices,) = _require(arguments, f"{name}_choice")
    return list(choices)


def _space_around(arguments: argparse.Namespace, arch: Arch) -> SearchSpace:
    """The smallest space with a sub-Transformer and the widths of the SuperNet's arrays."""
    record = arch.to_dict()
    encoder, decoder = record["encoder"], record["decoder"]
    layers = [*encoder["layers"], *decoder["layers"]]
    supers = {
        name: _require(arguments, *(f"{side}_{name}" for side in SIDES))
        for name in ("embed_dim", "layers", "ffn_embed_dim")
    }
    return _checked_space(
        arguments,
        encoder_embed_dims=[encoder["embed_dim"], supers["embed_dim"][0]],
        decoder_embed_dims=[decoder["embed_dim"], supers["embed_dim"][1]],
        encoder_layers=[len(encoder["layers"]), supers["layers"][0]],
        decoder_layers=[len(decoder["layers"]), supers["layers"][1]],
        encoder_self_heads=_values(encoder["layers"], "self_heads"),
        decoder_self_heads=_values(decoder["layers"], "self_heads"),
        decoder_cross_heads=_values(decoder["layers"], "cross_heads"),
        cross_layers=_values(decoder["layers"], "cross_layers"),
        encoder_experts=_counts(arguments, "encoder", encoder["layers"]),
        decoder_experts=_counts(arguments, "decoder", decoder["layers"]),
        expert_ffn_dims={width for layer in layers for width in layer["expert_ffn_dims"]}.union(
            supers["ffn_embed_dim"]
        ),
        top_k=_values(layers, "top_k"),
    )


def _values(layers: Sequence[dict[str, Any]], name: str) -> list[int]:
    return [layer[name] for layer in layers]


def _counts(
    arguments: argparse.Namespace, side: str, layers: Sequence[dict[str, Any]]
) -> list[int]:
    """Numbers of experts: those of the layers, and the largest, which every layer's arrays hold."""
    own = [len(layer["expert_ffn_dims"]) for layer in layers]
    return [*own, max(_given(arguments, side, "n_experts"))]


def _checked_space(arguments: argparse.Namespace, **genes: Any) -> SearchSpace:
    """The space of these choices; raises `UserError` where the model's arrays are not of its
    largest choices.
    """
    qkv = _get(arguments, "qkv_dim", None) or arguments.encoder_embed_dim
    choices: dict[str, Any] = {name: tuple(set(values)) for name, values in genes.items()}
    space = SearchSpace(qkv_dim=qkv, **choices)
    widest = {
        "encoder_embed_dim": space.super_encoder_embed_dim,
        "decoder_embed_dim": space.super_decoder_embed_dim,
        "encoder_ffn_embed_dim": space.super_ffn_dim,
        "decoder_ffn_embed_dim": space.super_ffn_dim,
        "encoder_layers": space.max_encoder_layers,
        "decoder_layers": space.max_decoder_layers,
    }
    for name, size in widest.items():
        if _get(arguments, name, None) != size:
            raise UserError(
                f"the checkpoint's setting {name}={_get(arguments, name, None)} is not the largest"
                f" of the choices, {size}; only a SuperNet whose arrays are as wide as its widest"
                " choice can be converted"
            )
    return space


def _arch(arguments: argparse.Namespace) -> Arch:
    """The architecture of a sub-Transformer."""
    encoder, decoder = (list(_layers(arguments, side)) for side in SIDES)
    depth = _require(arguments, "encoder_layer_num_subtransformer")[0]
    cross = _require(arguments, "decoder_arbitrary_ende_attn_all_subtransformer")[0]
    heads = _require(arguments, "decoder_ende_attention_heads_all_subtransformer")[0]
    for layer, code, count in zip(decoder, cross, heads, strict=False):
        layer |= {"cross_layers": min(_cross_layers(code), depth), "cross_heads": count}
    return Arch.from_dict(
        arch_lib.make(
            qkv_dim=_get(arguments, "qkv_dim", None) or arguments.encoder_embed_dim,
            encoder_embed_dim=_require(arguments, "encoder_embed_dim_subtransformer")[0],
            decoder_embed_dim=_require(arguments, "decoder_embed_dim_subtransformer")[0],
            encoder=encoder,
            decoder=decoder,
        ).to_dict()
    )


def _layers(arguments: argparse.Namespace, side: str) -> Iterator[dict[str, Any]]:
    """The genes of a side's layers, cross attention left out."""
    depth, widths, heads = _require(
        arguments,
        f"{side}_layer_num_subtransformer",
        f"{side}_ffn_embed_dim_all_subtransformer",
        f"{side}_self_attention_heads_all_subtransformer",
    )
    counts = _given(arguments, side, "n_experts")
    routes = _given(arguments, side, "num_experts_to_route")
    standard = _given(arguments, side, "std_vs_dummy_experts")
    separate = _get(arguments, f"{side}_each_expert_ffn_dim_listoflist", None)
    for i in range(depth):
        experts = [widths[i]] * _at(counts, i)
        if separate:
            experts = [int(width) for width in separate[i].strip("[]").split("_")]
        if len(standard) > 1 and not standard[i]:
            experts[0] = 0  # the identity expert
        yield {
            "self_heads": heads[i],
            "expert_ffn_dims": experts,
            "top_k": min(_at(routes, i), len(experts)),
        }


def _at(values: list[int], i: int) -> int:
    """A layer's value; a list of one is the default of all layers."""
    return values[i] if len(values) > 1 else values[0]


def _cross_layers(code: int) -> int:
    if code not in _CROSS_LAYERS:
        raise UserError(
            f"the checkpoint's setting decoder_arbitrary_ende_attn={code} must be one of"
            f" {', '.join(map(str, _CROSS_LAYERS))}"
        )
    return _CROSS_LAYERS[code]
