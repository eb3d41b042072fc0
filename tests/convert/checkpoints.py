"""Checkpoints as the originals write them, around the weights of tests/golden.

The settings are those that the originals' command lines leave in a checkpoint: HAT's of a SuperNet
and of a sub-Transformer, with those that AutoMoE adds.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from automoe_jax.convert.checkpoint import Checkpoint

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
META = json.loads((GOLDEN / "forward.json").read_text())
ARRAYS = np.load(GOLDEN / "forward.npz")
ALPHABET = "abcdefghijklmnopqrstu"
PIECES = (*ALPHABET, *(f"{letter}@@" for letter in ALPHABET), "the", "th@@", "an@@", "er")
DICTIONARY = "".join(f"{piece} {1000 - i}\n" for i, piece in enumerate(PIECES))
CODES = "#version: 0.2\nt h\ne r</w>\nth e</w>\na n\n"
_CROSS = {1: -1, 2: 1, 3: 2}


def weights(supernet: str) -> dict[str, np.ndarray]:
    """The golden weights with the buffers that fairseq saves."""
    prefix = f"weights/{supernet}/"
    own = {
        name.removeprefix(prefix): ARRAYS[name]
        for name in ARRAYS.files
        if name.startswith(prefix) and not name.endswith("positions_table")
    }
    table = own.pop("encoder.embed_tokens.weight")
    buffers = {
        f"{side}.{name}": np.ones(1, np.float32)
        for side in ("encoder", "decoder")
        for name in ("version", "embed_positions._float_tensor")
    }
    shared = {f"{side}.embed_tokens.weight": table for side in ("encoder", "decoder")}
    return buffers | shared | own


def settings(supernet: str, **changed: Any) -> argparse.Namespace:
    """The settings of a SuperNet's training."""
    made = META["supernets"][supernet]
    space, routed = made["space"], bool(made["super_n_experts"])
    found = {
        "activation_fn": "relu",
        "adam_betas": "(0.9, 0.98)",
        "adaptive_softmax_cutoff": None,
        "arch": "transformersuper_wmt_en_de",
        "attention_dropout": 0.1,
        "data": ["data/binary/wmt16_en_de"],
        "dropout": 0.3,
        "max_update": 40000,
        "qkv_dim": made["qkv_dim"],
        "share_all_embeddings": True,
        "source_lang": "en",
        "target_lang": "de",
        "train_subtransformer": False,
        "vocab_original_scaling": False,
        "decoder_arbitrary_ende_attn_choice": [_CROSS[n] for n in space["cross_layers"]],
        "decoder_ende_attention_heads_choice": space["decoder_cross_heads"],
    }
    for side in ("encoder", "decoder"):
        found |= {
            f"{side}_attention_heads": made["heads_max"],
            f"{side}_embed_choice": space[f"{side}_embed_dims"],
            f"{side}_embed_dim": made["embed_dim"],
            f"{side}_ffn_embed_dim": made["ffn_embed_dim"],
            f"{side}_ffn_embed_dim_choice": space["expert_ffn_dims"],
            f"{side}_layer_num_choice": space[f"{side}_layers"],
            f"{side}_layers": made["layers"],
            f"{side}_learned_pos": False,
            f"{side}_normalize_before": False,
            f"{side}_self_attention_heads_choice": space[f"{side}_self_heads"],
        }
        if routed:
            found |= {
                f"{side}_capacity_factor": 1.0,
                f"{side}_drop_ffn_sublayer": [1],
                f"{side}_drop_mha_sublayer": [1],
                f"{side}_drop_tokens": False,
                f"{side}_each_expert_ffn_dim": [0, 1],
                f"{side}_each_expert_ffn_dim_listoflist": None,
                f"{side}_expert_all_fixed_num_experts": [],
                f"{side}_expert_type": "switch",
                f"{side}_is_first_expert_identity": False,
                f"{side}_is_scale_prob": True,
                f"{side}_n_experts": space[f"{side}_experts"],
                f"{side}_num_experts_to_route": space["top_k"],
                f"{side}_std_vs_dummy_experts": [1],
            }
    return argparse.Namespace(**found | changed)


def sub_settings(subnet: str, **changed: Any) -> argparse.Namespace:
    """The settings of a sub-Transformer's training, whose genes are flags."""
    made = next(one for one in META["subnets"] if one["name"] == subnet)
    arch, found = made["arch"], settings(made["supernet"], train_subtransformer=True)
    for side in ("encoder", "decoder"):
        layers = arch[side]["layers"]
        own = {
            "embed_dim_subtransformer": arch[side]["embed_dim"],
            "layer_num_subtransformer": len(layers),
            "ffn_embed_dim_all_subtransformer": [one["expert_ffn_dims"][0] for one in layers],
            "self_attention_heads_all_subtransformer": [one["self_heads"] for one in layers],
        }
        if hasattr(found, f"{side}_n_experts"):
            widths = [one["expert_ffn_dims"] for one in layers]
            own |= {
                "n_experts": [len(one) for one in widths],
                "num_experts_to_route": [one["top_k"] for one in layers],
                "each_expert_ffn_dim": [1],
                "each_expert_ffn_dim_listoflist": [f"[{'_'.join(map(str, w))}]" for w in widths],
            }
        vars(found).update({f"{side}_{name}": value for name, value in own.items()})
        for gene in ("embed", "ffn_embed_dim", "layer_num", "self_attention_heads"):
            vars(found)[f"{side}_{gene}_choice"] = [512, 256, 128]  # the parser's own defaults
    layers = arch["decoder"]["layers"]
    cross = [_CROSS[one["cross_layers"]] for one in layers]
    found.decoder_arbitrary_ende_attn_all_subtransformer = [*cross, *[-1] * (2 - len(cross))]
    found.decoder_ende_attention_heads_all_subtransformer = [one["cross_heads"] for one in layers]
    vars(found).update(changed)
    return found


def checkpoint(name: str, sub: bool = False, **changed: Any) -> Checkpoint:
    """The checkpoint of a golden SuperNet, or of a sub-Transformer that was trained inside one."""
    if not sub:
        return Checkpoint(weights(name), settings(name, **changed), 40000, 2.5)
    supernet = next(one["supernet"] for one in META["subnets"] if one["name"] == name)
    return Checkpoint(weights(supernet), sub_settings(name, **changed), 40000)


def write_vocabulary(folder: pathlib.Path) -> tuple[str, str]:
    """Paths of a dictionary of the golden networks' size and of its codes."""
    (folder / "dict.txt").write_text(DICTIONARY)
    (folder / "codes").write_text(CODES)
    return str(folder / "dict.txt"), str(folder / "codes")


def logits(subnet: str) -> np.ndarray:
    """The original's logits."""
    return ARRAYS[f"subnets/{subnet}/logits_f32"]


def batch() -> Sequence[np.ndarray]:
    """Source and target input of those logits."""
    return ARRAYS["batch/src_tokens"], ARRAYS["batch/prev_output_tokens"]
