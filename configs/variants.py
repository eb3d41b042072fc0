"""Variants of the systems in configs/systems.py, trained for a quarter of their length: 2 epochs of
the text.

    python -m automoe_jax.main --config=configs/variants.py:thor_mild --workdir=runs/thor_mild
    python -m automoe_jax.compare --configs=configs/variants --seeds=1,2 --workdir=runs/variants

Each isolates a part of a system: its gate, its loss, its recipe. Runs of 2 epochs are compared with
one another only, so the systems that are varied are here as well. Two hours on one CPU core for one
seed of all. Results of seed 1 are in docs/results/variants; those under the protocol before
2026-11-25 (3 + 3 layers, 870 updates) in docs/results/systems.
"""

import controls
import systems
from ml_collections import ConfigDict

from automoe_jax.registry import Registry

UPDATES = 875
VARIED = ("dense", "topk", "thor", "da_moe", "automoe")  # in configs/systems.py


def topk_gate_one() -> ConfigDict:
    """`topk` whose gates are p / stop_gradient(p): the effect of a gate below 1 on the scale of the
    experts.
    """
    config = systems.topk()
    config.router.gate = "one"
    return config


def random_token() -> ConfigDict:
    """No router: every token's expert is drawn again in every update; the control of `topk`."""
    config = systems.mixture()
    config.router.kind = "random"
    config.router.draw = "token"
    return config


def random_word() -> ConfigDict:
    """No router: every word piece has a fixed expert in each layer; the control of `topk`."""
    config = systems.mixture()
    config.router.kind = "random"
    config.router.draw = "fixed"
    return config


def thor_apart() -> ConfigDict:
    """THOR with α = 0: the effect of the consistency loss on the disagreement between experts."""
    config = systems.thor()
    config.retrain.consistency = 0.0
    return config


def rdrop_apart() -> ConfigDict:
    """`rdrop` with α = 0: what a second pass gains, and the disagreement of dropout alone."""
    config = systems.rdrop()
    config.retrain.consistency = 0.0
    return config


def da_moe_raw() -> ConfigDict:
    """DA-MoE with raw gates, as `topk` has them: the effect of the renormalisation."""
    config = systems.da_moe()
    config.router.renormalise = False
    return config


def automoe_balanced() -> ConfigDict:
    """AutoMoE whose result is trained with a balancing loss, against collapse of its routers.

    `compare` reuses the SuperNet and the search of `automoe`, so the architecture is the same.
    """
    config = systems.automoe()
    config.retrain.balance_loss = 0.01
    return config


def automoe_fast() -> ConfigDict:
    """AutoMoE for low latency of one sentence: a decoder of one layer of half the width.

    Each step of decoding reads the decoder's weights and the projection to the vocabulary once. So
    the decoder is small, and the search has the FLOPs for the encoder.
    """
    config = systems.automoe()
    config.space.decoder_embed_dims = (64,)
    config.space.decoder_layers = (1,)
    config.space.decoder_experts = (1, 2)
    config.space.expert_ffn_dims = (32, 64, 128, 256)
    return config


SYSTEMS = Registry(
    "system",
    {name: systems.SYSTEMS[name] for name in VARIED}
    | {
        variant.__name__: variant
        for variant in (
            topk_gate_one,
            random_token,
            random_word,
            controls.thor_mild,
            thor_apart,
            rdrop_apart,
            controls.rdrop_mild,
            da_moe_raw,
            automoe_balanced,
            automoe_fast,
        )
    },
    others="; your own system needs a separate file (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the variant `name`, or of a system that is varied."""
    config = SYSTEMS.find(name)()
    for train in (config.supernet, config.retrain):
        train.steps = UPDATES
        train.warmup_steps //= 2
    return config
