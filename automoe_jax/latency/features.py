"""Properties of an architecture that its latency, file and memory are linear in, about.

One column for each kind of work: fixed parts, products with weights, attention, experts that are
chosen. Units are those of the work, scaled by the predictor. A layer that skips blocks counts as
the share of its blocks that it has.

Axes: C features.
"""

import numpy as np
from jaxtyping import Float64

from automoe_jax.arch import DECODER, ENCODER, Arch

NAMES = (
    "one",
    "encoder layers",
    "decoder layers",
    "encoder width",
    "decoder width",
    "encoder attention weights",
    "decoder attention weights",
    "weights of keys and values of the memory",
    "encoder FFN weights of a token",
    "decoder FFN weights of a token",
    "encoder layers with a choice of experts",
    "decoder layers with a choice of experts",
    "encoder experts",
    "decoder experts",
    "encoder heads",
    "decoder heads",
    "encoder layers that cross attention sees",
    "FFN weights of all experts",
)


def features(arch: Arch) -> Float64[np.ndarray, "C"]:
    """Properties [C] of an architecture, in the order of `NAMES`."""
    e, d, q = int(arch.encoder_embed_dim), int(arch.decoder_embed_dim), int(arch.qkv_dim)
    encoder, decoder = arch.encoder_experts, arch.decoder_experts
    seen = sum(arch.cross_layers.tolist()[: len(decoder)])
    attends = int(np.sum(arch.encoder_self_heads > 0))
    attends_self = int(np.sum(arch.decoder_self_heads > 0))
    attends_cross = int(np.sum(arch.decoder_cross_heads > 0))
    return np.array(
        [
            1,
            (attends + sum(map(bool, encoder))) / 2,
            (attends_self + attends_cross + sum(map(bool, decoder))) / 3,
            e,
            d,
            attends * 4 * e * q,
            (4 * attends_self + 2 * attends_cross) * d * q,
            seen * 2 * e * q,
            _ffn_of_a_token(arch, ENCODER, e),
            _ffn_of_a_token(arch, DECODER, d),
            sum(len(widths) > 1 for widths in encoder),
            sum(len(widths) > 1 for widths in decoder),
            sum(map(len, encoder)),
            sum(map(len, decoder)),
            sum(arch.encoder_self_heads.tolist()[: len(encoder)]),
            sum(arch.decoder_self_heads.tolist()[: len(decoder)])
            + sum(arch.decoder_cross_heads.tolist()[: len(decoder)]),
            seen,
            2 * e * sum(map(sum, encoder)) + 2 * d * sum(map(sum, decoder)),
        ],
        np.float64,
    )


def _ffn_of_a_token(arch: Arch, side: str, width: int) -> float:
    """Weights of the experts of one token, the mean over uniform routing."""
    layers = zip(
        getattr(arch, f"{side}_experts"), getattr(arch, f"{side}_top_k").tolist(), strict=False
    )
    weights = (2 * width * top_k * sum(widths) / len(widths) for widths, top_k in layers if widths)
    return sum(weights, start=0.0)
