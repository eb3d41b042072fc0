"""FLOPs and parameters of an architecture in closed form (SPEC 1.6), without JAX and without building a model.

    python -m automoe_jax.costs --arch=FILE.json [--source_length=30 --target_length=30 --vocab_size=32768]

FLOPs are two per multiply-accumulate, of one teacher-forced sentence pair. Axes and letters: S source tokens · T target
tokens · N tokens of a layer · D embedding width · Q qkv width · E experts · F expert width · K experts per token.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

from automoe_jax.arch import Arch
from automoe_jax.errors import UserError, run_for_people

VOCAB_SIZE = 32_768  # of the published WMT models


@dataclasses.dataclass(frozen=True)
class Costs:
    """What an architecture costs; the fields that are means over routings may be fractions.

    FLOPs leave the vocabulary projection out unless the name says otherwise; parameters leave embeddings out.
    """

    flops: float  # expected under uniform routing
    flops_min: int  # every token at its layer's K narrowest experts
    flops_max: int  # every token at its layer's K widest experts
    flops_with_vocabulary: float  # expected under uniform routing
    params: int  # with all experts
    active_params: float  # with the K experts of a token, mean over uniform routing
    active_params_min: int
    active_params_max: int


@dataclasses.dataclass(frozen=True)
class _Amount:
    """MACs or parameters: mean, smallest and largest over routings, exactly."""

    mean: Fraction
    least: int
    most: int

    def __add__(self, other: "_Amount") -> "_Amount":
        return _Amount(self.mean + other.mean, self.least + other.least, self.most + other.most)

    def times(self, factor: int) -> "_Amount":
        return _Amount(self.mean * factor, self.least * factor, self.most * factor)


def costs(arch: Arch, source_length: int = 30, target_length: int = 30, vocab_size: int = VOCAB_SIZE) -> Costs:
    """FLOPs and parameters of `arch` for one sentence pair; lengths in tokens.

    Raises `UserError` for a length or vocabulary that is not positive.
    """
    for name, value in {"source_length": source_length, "target_length": target_length, "vocab_size": vocab_size}.items():
        if value < 1:
            raise UserError(f"{name}={value} must be a whole number of at least 1")
    macs = _macs(arch, source_length, target_length)
    active = _fixed(_shared_params(arch)) + _active_expert_params(arch)
    vocabulary = target_length * int(arch.decoder_embed_dim) * vocab_size
    return Costs(
        flops=_number(2 * macs.mean),
        flops_min=2 * macs.least,
        flops_max=2 * macs.most,
        flops_with_vocabulary=_number(2 * (macs.mean + vocabulary)),
        params=_shared_params(arch) + _all_expert_params(arch),
        active_params=_number(active.mean),
        active_params_min=active.least,
        active_params_max=active.most,
    )


def _macs(arch: Arch, source_length: int, target_length: int) -> _Amount:
    s, t = source_length, target_length
    d_encoder, d_decoder, q = int(arch.encoder_embed_dim), int(arch.decoder_embed_dim), int(arch.qkv_dim)
    total = _fixed(s * d_encoder + t * d_decoder)  # the scale of the embeddings
    for widths, top_k in zip(arch.encoder_experts, arch.encoder_top_k.tolist(), strict=False):
        total += _fixed(_self_attention_macs(s, d_encoder, q) + 2 * s * d_encoder)  # with two LayerNorms
        total += _ffn_macs(s, d_encoder, widths, top_k, arch.routed)
    for i, (widths, top_k) in enumerate(zip(arch.decoder_experts, arch.decoder_top_k.tolist(), strict=False)):
        attended = int(arch.cross_layers[i]) * s
        cross = 2 * t * d_decoder * q + 2 * attended * d_encoder * q + 2 * t * attended * q + t * q
        total += _fixed(_self_attention_macs(t, d_decoder, q) + cross + 3 * t * d_decoder)  # with three LayerNorms
        total += _ffn_macs(t, d_decoder, widths, top_k, arch.routed)
    return total


def _self_attention_macs(tokens: int, d: int, q: int) -> int:
    """Four projections, scores and weighted sum, and the scale of the queries."""
    return 4 * tokens * d * q + 2 * tokens**2 * q + tokens * q


def _ffn_macs(tokens: int, d: int, widths: Sequence[int], top_k: int, routed: bool) -> _Amount:
    """Experts, and in a routed architecture every layer's router and gate."""
    experts = _over_routings([2 * d * width for width in widths], top_k).times(tokens)
    return experts + _fixed(tokens * d * (len(widths) + top_k)) if routed else experts


def _shared_params(arch: Arch) -> int:
    """Parameters every token uses: attention, LayerNorms and, in a routed architecture, every layer's router."""
    d_encoder, d_decoder, q = int(arch.encoder_embed_dim), int(arch.decoder_embed_dim), int(arch.qkv_dim)
    self_encoder, self_decoder = _attention_params(d_encoder, d_encoder, q), _attention_params(d_decoder, d_decoder, q)
    cross = _attention_params(d_decoder, d_encoder, q)
    total = arch.encoder_layers * (self_encoder + 2 * 2 * d_encoder)
    total += arch.decoder_layers * (self_decoder + cross + 3 * 2 * d_decoder)
    if arch.routed:
        total += sum(len(widths) * (d_encoder + 1) for widths in arch.encoder_experts)
        total += sum(len(widths) * (d_decoder + 1) for widths in arch.decoder_experts)
    return total


def _attention_params(d_query: int, d_key: int, q: int) -> int:
    """Query and output projections of the queries' width, key and value projections of the keys', with biases."""
    return 2 * d_query * q + 2 * d_key * q + 3 * q + d_query


def _expert_params(d: int, widths: Sequence[int]) -> list[int]:
    """Two matrices and two biases for each expert, nothing for an identity expert (width 0)."""
    return [2 * d * width + width + d if width else 0 for width in widths]


def _all_expert_params(arch: Arch) -> int:
    encoder = sum(sum(_expert_params(int(arch.encoder_embed_dim), widths)) for widths in arch.encoder_experts)
    return encoder + sum(sum(_expert_params(int(arch.decoder_embed_dim), widths)) for widths in arch.decoder_experts)


def _active_expert_params(arch: Arch) -> _Amount:
    total = _fixed(0)
    for widths, top_k in zip(arch.encoder_experts, arch.encoder_top_k.tolist(), strict=False):
        total += _over_routings(_expert_params(int(arch.encoder_embed_dim), widths), top_k)
    for widths, top_k in zip(arch.decoder_experts, arch.decoder_top_k.tolist(), strict=False):
        total += _over_routings(_expert_params(int(arch.decoder_embed_dim), widths), top_k)
    return total


def _over_routings(values: Sequence[int], top_k: int) -> _Amount:
    """The sum over one token's `top_k` experts, when expert e costs `values[e]`."""
    ordered = sorted(values)
    return _Amount(Fraction(top_k * sum(values), len(values)), sum(ordered[:top_k]), sum(ordered[-top_k:]))


def _fixed(value: int) -> _Amount:
    return _Amount(Fraction(value), value, value)


def _number(value: Fraction) -> float:
    """An int where the value is whole, so that it prints as one."""
    return value.numerator if value.denominator == 1 else float(value)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def _read_arch(path: str) -> Arch:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--arch={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--arch={path} is not a JSON file: it holds bytes that are not UTF-8") from None
    try:
        return Arch.from_json(text)
    except UserError as error:
        raise UserError(f"--arch={path}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the costs of an architecture file as one JSON object."""
    parser = _Parser(prog="python -m automoe_jax.costs", description="FLOPs and parameters of an architecture, as JSON.")
    parser.add_argument("--arch", required=True, help="JSON file of the architecture")
    parser.add_argument("--source_length", type=int, default=30, help="source tokens (default: 30)")
    parser.add_argument("--target_length", type=int, default=30, help="target tokens (default: 30)")
    parser.add_argument("--vocab_size", type=int, default=VOCAB_SIZE, help=f"pieces of the output vocabulary (default: {VOCAB_SIZE})")
    flags = parser.parse_args(arguments)
    found = costs(_read_arch(flags.arch), flags.source_length, flags.target_length, flags.vocab_size)
    print(json.dumps(dataclasses.asdict(found), indent=2))


if __name__ == "__main__":
    sys.exit(run_for_people(main))
