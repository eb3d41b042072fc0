"""PLANER's skip (arXiv 2208.14580) on the built-in text: the same search with and without blocks
that a layer may lack.

    python -m automoe_jax.main --config=configs/skips.py:skips --workdir=runs/skips
    python -m automoe_jax.compare --configs=configs/skips --seeds=1,2 --workdir=runs/skips

The demo's space and text under 0.65 of the largest dense Transformer's FLOPs, which admits 42 % of
even draws where every block is present and 75 % where blocks may be skipped. On one core of an AMD
EPYC a run takes 2 to 6 minutes. docs/systems/planer.md has the results.
"""

import demo
from ml_collections import ConfigDict

from automoe_jax.registry import Registry

MAX_FLOPS = 8.5e6  # 0.65 of the largest dense Transformer's 13.1e6


def dense() -> ConfigDict:
    """The largest dense Transformer of the space; no search."""
    config = base()
    config.space.decoder_layers = (2,)
    config.space.encoder_self_heads = config.space.decoder_self_heads = (4,)
    config.space.decoder_cross_heads = (4,)
    config.space.cross_layers = (1,)
    config.space.encoder_experts = config.space.decoder_experts = (1,)
    config.space.expert_ffn_dims = (256,)
    config.search.max_flops = 0.0
    return config


def present() -> ConfigDict:
    """A search in which every block is present: AutoMoE's."""
    return base()


def skips() -> ConfigDict:
    """The same search in which attention and FFN of every layer may be absent."""
    config = base()
    config.space.encoder_self_heads = config.space.decoder_self_heads = (0, 2, 4)
    config.space.decoder_cross_heads = (0, 2, 4)
    config.space.encoder_experts = config.space.decoder_experts = (0, 1, 2, 3)
    return config


def skips_longer() -> ConfigDict:
    """`skips` whose SuperNet is trained four times as long: the control of what its larger space
    costs. Not run.
    """
    config = skips()
    config.supernet.steps = 2400
    return config


def base() -> ConfigDict:
    """The demo's settings with a limit of FLOPs and a longer training of the SuperNet."""
    config = demo.get_config()
    config.search.max_latency_share, config.search.objective = 0.0, "flops"
    config.search.max_flops = MAX_FLOPS
    config.search.dense_rival = False
    config.supernet.within_limits = True
    config.supernet.steps = 600
    config.retrain.dense_baseline = False
    config.retrain.candidates = 1
    return config


SYSTEMS = Registry(
    "system",
    {system.__name__: system for system in (dense, present, skips, skips_longer)},
    others="; your own system needs a separate file (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the system `name`."""
    return SYSTEMS.find(name)()
