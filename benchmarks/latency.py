"""Latency of one sentence against FLOPs, for architectures of the sizes in configs/systems.py.

    python -m benchmarks.latency --json=latency.json

Untrained networks, beam 5, one sentence of 30 + 30 tokens, interleaved. Each is also timed with a
vocabulary of 20 tokens; the difference is the time for the projection to the vocabulary and the
search for the best tokens.
"""

import argparse
import dataclasses
from typing import Any

import jax

from automoe_jax import arch as arch_lib
from automoe_jax.arch import Arch
from automoe_jax.config import from_config_dict
from automoe_jax.costs import costs
from automoe_jax.inference import latency
from automoe_jax.model import init
from automoe_jax.registry import import_file
from benchmarks.harness import Row, parser, run

SYSTEMS = "configs/systems.py"
HARDLY_ANY = 20  # tokens: the special ones and enough for a beam
LENGTHS: dict[str, Any] = {"source_length": 30, "target_length": 30}


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times one sentence with each architecture."""
    config = from_config_dict(import_file(SYSTEMS)["searched"](4))
    space = dataclasses.replace(
        config.space,
        encoder_embed_dims=(64, 128),
        decoder_embed_dims=(64, 128),
        encoder_layers=(1, 2, 3),
        decoder_layers=(1, 2, 3),
    )
    searched = _arch(128, [[128], [128, 256]], [[512, 512, 128]])
    archs = {
        "largest dense: 3 + 3 layers of width 128, 512 units": _arch(
            128, [[512]] * 3, [[512]] * 3, heads=4
        ),
        "AutoMoE's (seed 1): 2 + 1 layers, three experts in the decoder": searched,
        "2 + 1 dense layers of width 128, 128 units": _arch(128, [[128]] * 2, [[128]]),
        "1 + 1 layers of width 64, experts [512, 128] and [512, 512, 128]": _arch(
            64, [[512, 128]], [[512, 512, 128]]
        ),
        "2 + 1 dense layers of width 64, 128 units": _arch(64, [[128]] * 2, [[128]]),
        "1 + 1 dense layers of width 64, 128 units": _arch(64, [[128]], [[128]]),
    }
    sizes = (config.data.vocab_size, HARDLY_ANY)
    networks = [
        init(space, size, jax.random.key(0), arch=arch) for arch in archs.values() for size in sizes
    ]
    took = [each.total for each in latency.measure(networks, **LENGTHS, runs=60)]
    whole, without = took[::2], took[1::2]
    flops = [costs(arch, **LENGTHS).flops for arch in archs.values()]
    return [
        _row(name, whole[i], without[i], whole[0] / whole[i], flops[0] / flops[i], arch is searched)
        for i, (name, arch) in enumerate(archs.items())
    ]


def _row(
    name: str, whole: float, without: float, ratio: float, fewer: float, has_goal: bool
) -> Row:
    return Row(
        "One sentence of 30 + 30 tokens, beam 5, relative to the largest dense architecture",
        {
            "architecture": name,
            "ms": f"{whole:.1f}",
            "share of the vocabulary": f"{1 - without / whole:.0%}",
            "speed-up": f"{ratio:.2f}",
            "fewer FLOPs": f"{fewer:.2f}",
        },
        "speed-up ≥ 3" if has_goal else "",
        ratio >= 3 if has_goal else None,
        {
            "milliseconds": whole,
            "without_vocabulary": without,
            "speedup": ratio,
            "fewer_flops": fewer,
        },
    )


def _arch(width: int, encoder: list[list[int]], decoder: list[list[int]], heads: int = 2) -> Arch:
    """Layers by the widths of their experts, one of which each token uses."""
    common: dict[str, Any] = {
        "self_heads": heads,
        "cross_heads": heads,
        "cross_layers": 1,
        "top_k": 1,
    }
    layers = [
        [common | {"expert_ffn_dims": experts} for experts in side] for side in (encoder, decoder)
    ]
    return arch_lib.make(
        qkv_dim=128,
        encoder_embed_dim=width,
        decoder_embed_dim=width,
        encoder=layers[0],
        decoder=layers[1],
    )


if __name__ == "__main__":
    run(measure, parser("benchmarks.latency", __doc__))
