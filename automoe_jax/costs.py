"""FLOPs and parameters of an architecture in closed form, without JAX and without building a model.
docs/costs.md defines the counting rule.

    python -m automoe_jax.costs --arch=FILE.json [--source_length=30 --target_length=30
    --vocab_size=32768]

FLOPs are two per multiply-accumulate, of one teacher-forced sentence pair. For an encoder without a
decoder they are those of one sentence, and the vocabulary is that of its classes. Axes and letters:
S source tokens · T target tokens · N tokens of a layer · D embedding width · Q qkv width · E
experts · F expert width · K experts per token.
"""

import dataclasses
import json
import operator
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from automoe_jax.arch import Arch
from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.errors import UserError

VOCAB_SIZE = 32_768  # of the published WMT models
LENGTH = 30  # tokens of a sentence, as the papers count costs on WMT


@dataclasses.dataclass(frozen=True)
class Costs:
    """Costs of an architecture; means over routings may be fractions.

    FLOPs exclude the vocabulary projection unless the name says otherwise; parameters exclude
    embeddings.
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
class RouterCosts:
    """Contribution of a router to the costs; the defaults are those of a learned top-K router."""

    gated: bool = True  # every FFN has a linear gate with bias, if some layer has several experts
    # mean experts per token of each layer, the encoder's first, where that is not the gene K; least
    # and most are then over any K
    experts_per_token: tuple[float, ...] | None = None


class _Amount(NamedTuple):
    """MACs or parameters: mean, smallest and largest over routings, exactly."""

    mean: Fraction | int
    least: int
    most: int


class _Layer(NamedTuple):
    """Properties of a layer that determine its costs."""

    is_decoder: bool
    widths: tuple[int, ...]  # of the experts; () without an FFN
    top_k: int
    self_attention: bool
    cross_layers: int = 0  # encoder layers that the cross attention sees; 0 without one
    experts_per_token: float | None = None  # the mean, where that is not `top_k`
    # share of the tokens that each expert gets, where that was measured
    loads: tuple[float, ...] | None = None


class _Sizes(NamedTuple):
    """An architecture in plain Python."""

    d_encoder: int
    d_decoder: int
    q: int
    layers: tuple[_Layer, ...]
    gated: bool
    final_norms: bool  # a LayerNorm after the last layer of each side: pre-norm

    def d(self, layer: _Layer) -> int:
        return self.d_decoder if layer.is_decoder else self.d_encoder


def costs(
    arch: Arch,
    source_length: int = LENGTH,
    target_length: int = LENGTH,
    vocab_size: int = VOCAB_SIZE,
    *,
    router: RouterCosts = RouterCosts(),
    loads: Sequence[Sequence[float]] | None = None,
    pre_norm: bool = False,
) -> Costs:
    """FLOPs and parameters of `arch` for one sentence pair; lengths in tokens.

    `router` is that of the configuration, `config.router.costs(arch)`. `loads` is the share of the
    tokens that each expert of each layer gets, measured on a text
    (`inference.expert_usage.measure`); by default the mean is over uniform routing. `pre_norm`
    counts a LayerNorm after the last layer of each side.

    Raises `UserError` for a length or vocabulary that is not positive.
    """
    for name, value in {
        "source_length": source_length,
        "target_length": target_length,
        "vocab_size": vocab_size,
    }.items():
        if value < 1:
            raise UserError(f"{name}={value} must be a whole number of at least 1")
    sizes = _sizes(arch, router, loads, pre_norm)
    macs = _macs(sizes, source_length, target_length)
    vocabulary = (
        target_length * sizes.d_decoder if arch.decoder_layers else sizes.d_encoder
    ) * vocab_size
    shared = sum(_shared_params(sizes, layer) for layer in sizes.layers)
    shared += sum(2 * width for width in _final_norms(sizes))
    experts = [_expert_params(sizes.d(layer), layer.widths) for layer in sizes.layers]
    active = _total(
        _over_routings(params, layer) for params, layer in zip(experts, sizes.layers, strict=True)
    )
    return Costs(
        flops=_number(2 * macs.mean),
        flops_min=2 * macs.least,
        flops_max=2 * macs.most,
        flops_with_vocabulary=_number(2 * (macs.mean + vocabulary)),
        params=shared + sum(map(sum, experts)),
        active_params=_number(shared + active.mean),
        active_params_min=shared + active.least,
        active_params_max=shared + active.most,
    )


def sparsity(arch: Arch) -> tuple[float, float]:
    """1 − active / total parameters: of the layers' own experts, and as published (AutoMoE, table
    4).

    The published figures count as many experts in every layer as the layer with the most has, here
    with the layer's mean width.
    """
    counted, sizes = costs(arch), _sizes(arch)
    ffns = [layer for layer in sizes.layers if layer.widths]
    most = max((len(layer.widths) for layer in ffns), default=0)
    each = [
        Fraction(sum(_expert_params(sizes.d(layer), layer.widths)), len(layer.widths))
        for layer in ffns
    ]
    missing = sum((most - len(layer.widths)) * one for layer, one in zip(ffns, each, strict=True))
    return 1 - counted.active_params / counted.params, float(
        1 - counted.active_params / (counted.params + missing)
    )


def _sizes(
    arch: Arch,
    router: RouterCosts = RouterCosts(),
    loads: Sequence[Sequence[float]] | None = None,
    pre_norm: bool = False,
) -> _Sizes:
    encoder = zip(
        arch.encoder_experts,
        arch.encoder_top_k.tolist(),
        (arch.encoder_self_heads > 0).tolist(),
        strict=False,
    )
    decoder = zip(
        arch.decoder_experts,
        arch.decoder_top_k.tolist(),
        (arch.decoder_self_heads > 0).tolist(),
        arch.cross_layers.tolist(),
        strict=False,
    )
    layers = tuple(_Layer(False, *one) for one in encoder)
    layers += tuple(_Layer(True, *one) for one in decoder)
    if router.experts_per_token is not None:
        layers = tuple(
            layer._replace(experts_per_token=mean)
            for layer, mean in zip(layers, router.experts_per_token, strict=True)
        )
    if loads is not None:
        layers = tuple(
            layer._replace(loads=tuple(shares)) for layer, shares in zip(layers, loads, strict=True)
        )
    gated = router.gated and any(len(layer.widths) > 1 for layer in layers)
    return _Sizes(
        int(arch.encoder_embed_dim),
        int(arch.decoder_embed_dim),
        int(arch.qkv_dim),
        layers,
        gated,
        pre_norm,
    )


def _macs(sizes: _Sizes, source_length: int, target_length: int) -> _Amount:
    # the scale of the embeddings, then the target's or the mean over positions
    shared: Fraction | int = source_length * sizes.d_encoder
    shared += (
        target_length * sizes.d_decoder
        if any(layer.is_decoder for layer in sizes.layers)
        else source_length * sizes.d_encoder
    )
    lengths = (source_length, target_length)
    shared += sum(map(operator.mul, lengths, _final_norms(sizes)))
    experts = []
    for layer in sizes.layers:
        tokens = target_length if layer.is_decoder else source_length
        shared += _shared_macs(sizes, layer, tokens, source_length)
        experts.append(
            _over_routings([tokens * 2 * sizes.d(layer) * width for width in layer.widths], layer)
        )
    mean, least, most = _total(experts)
    return _Amount(shared + mean, int(shared + least), int(shared + most))


def _shared_macs(sizes: _Sizes, layer: _Layer, tokens: int, source_length: int) -> Fraction | int:
    """Attention, LayerNorms and, in a gated architecture, every FFN's router and gate."""
    d, q = sizes.d(layer), sizes.q
    macs: Fraction | int = 0
    if layer.self_attention:
        # Four projections, the scores and the weighted sum, the scale of the queries.
        macs += 4 * tokens * d * q + 2 * tokens**2 * q + tokens * q
    if layer.cross_layers:
        attended = layer.cross_layers * source_length
        macs += (
            2 * tokens * d * q
            + 2 * attended * sizes.d_encoder * q
            + 2 * tokens * attended * q
            + tokens * q
        )
    if sizes.gated and layer.widths:
        macs += tokens * d * (len(layer.widths) + _gates(layer))
    return macs + _layer_norms(layer) * tokens * d


def _shared_params(sizes: _Sizes, layer: _Layer) -> int:
    """Attention, LayerNorms and, in a gated architecture, every FFN's router."""
    d, q = sizes.d(layer), sizes.q
    params = _layer_norms(layer) * 2 * d
    if layer.self_attention:
        params += _attention_params(d, d, q)
    if layer.cross_layers:
        params += _attention_params(d, sizes.d_encoder, q)
    if sizes.gated:
        params += len(layer.widths) * (d + 1)
    return params


def _final_norms(sizes: _Sizes) -> list[int]:
    """Widths of the LayerNorms after the last layers, the encoder's first."""
    if not sizes.final_norms:
        return []
    has_decoder = any(layer.is_decoder for layer in sizes.layers)
    return [sizes.d_encoder, *([sizes.d_decoder] if has_decoder else [])]


def _layer_norms(layer: _Layer) -> int:
    """One for each block that the layer has."""
    return layer.self_attention + bool(layer.cross_layers) + bool(layer.widths)


def _attention_params(d_query: int, d_key: int, q: int) -> int:
    """Query and output projections of the queries' width, key and value projections of the keys',
    with biases.
    """
    return 2 * d_query * q + 2 * d_key * q + 3 * q + d_query


def _expert_params(d: int, widths: Sequence[int]) -> list[int]:
    """Two matrices and two biases for each expert, nothing for an identity expert (width 0)."""
    return [2 * d * width + width + d if width else 0 for width in widths]


def _gates(layer: _Layer) -> Fraction | int:
    """Experts that one token gets, the mean."""
    if layer.loads is not None:
        return sum(map(Fraction, layer.loads))
    if layer.experts_per_token is not None:
        return Fraction(layer.experts_per_token)
    return layer.top_k


def _over_routings(values: Sequence[int], layer: _Layer) -> _Amount:
    """The sum over one token's experts, when expert e costs `values[e]`."""
    if not values:
        return _Amount(0, 0, 0)
    ordered = sorted(values)
    least, most = sum(ordered[: layer.top_k]), sum(ordered[-layer.top_k :])
    if layer.experts_per_token is not None:
        least, most = ordered[0], sum(values)
    if layer.loads is not None:
        return _Amount(
            sum(Fraction(load) * value for load, value in zip(layer.loads, values, strict=True)),
            least,
            most,
        )
    mean = Fraction(_gates(layer) * sum(values), len(values)) if len(values) > 1 else values[0]
    return _Amount(mean, least, most)


def _total(amounts: Iterable[_Amount]) -> _Amount:
    return _Amount(*map(sum, zip(*amounts, strict=True)))


def _number(value: Fraction | int) -> float:
    """An int where the value is whole, so that it prints as one."""
    return value.numerator if value.denominator == 1 else float(value)


def read_arch(path: str) -> Arch:
    """The architecture in a file that --arch names; raises `UserError` if there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--arch={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(
            f"--arch={path} is not a JSON file: it holds bytes that are not UTF-8"
        ) from None
    try:
        return Arch.from_json(text)
    except UserError as error:
        raise UserError(f"--arch={path}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the costs of an architecture file as one JSON object."""
    parser = Parser("automoe_jax.costs", "FLOPs and parameters of an architecture, as JSON.")
    parser.add_argument("--arch", required=True, help="JSON file of the architecture")
    for side in ("source", "target"):
        words = f"{side} tokens (default: {LENGTH})"
        parser.add_argument(f"--{side}_length", type=int, default=LENGTH, help=words)
    parser.add_argument(
        "--vocab_size",
        type=int,
        default=VOCAB_SIZE,
        help=f"pieces of the output vocabulary (default: {VOCAB_SIZE})",
    )
    flags = parser.parse(arguments)
    counted = costs(
        read_arch(flags.arch), flags.source_length, flags.target_length, flags.vocab_size
    )
    print(json.dumps(dataclasses.asdict(counted), indent=2))


if __name__ == "__main__":
    sys.exit(run_for_people(main))
