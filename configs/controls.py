"""Controls of the comparison: systems of configs/systems.py with one setting changed, trained for
their 8 epochs, to separate the causes of a difference.

    python -m automoe_jax.main --config=configs/controls.py:topk_2e3 --workdir=runs/topk_2e3
    python -m automoe_jax.compare --configs=configs/controls --seeds=1 --workdir=runs/systems \
        --results=docs/results/eight_epochs

Projected on one CPU core: 25 minutes a run, 35 with two passes. Controls that are published systems
or need no more than a short run are in configs/systems.py and configs/variants.py.
"""

import systems
from ml_collections import ConfigDict

from automoe_jax.registry import Registry


def topk_2e3() -> ConfigDict:
    """`topk` at the learning rate of `da_moe`: what half the rate costs without DA-MoE's router."""
    config = systems.topk()
    config.retrain.learning_rate = 2e-3
    return config


def da_moe_4e3() -> ConfigDict:
    """`da_moe` at the learning rate of the others.

    BLEU 20.6 (21.0 and 20.1 with seeds 1 and 2), trained in 17 minutes on one core
    (docs/results/eight_epochs).
    """
    config = systems.da_moe()
    config.retrain.learning_rate = 4e-3
    return config


def da_moe_relative_4e3() -> ConfigDict:
    """`da_moe_relative` at the learning rate of the others."""
    config = systems.da_moe_relative()
    config.retrain.learning_rate = 4e-3
    return config


def thor_mild() -> ConfigDict:
    """`thor` with α = 1, the default of its authors' code, where its script has 5.

    BLEU 21.8 (22.0 and 21.6 with seeds 1 and 2), trained in 38 and 43 minutes on one core
    (docs/results/eight_epochs).
    """
    config = systems.thor()
    config.retrain.consistency = 1.0
    return config


def rdrop_mild() -> ConfigDict:
    """`rdrop` with α = 1: the loss of `thor_mild` without experts.

    BLEU 22.7 (22.8 and 22.6 with seeds 1 and 2), trained in 36 and 63 minutes on one core
    (docs/results/eight_epochs).
    """
    config = systems.rdrop()
    config.retrain.consistency = 1.0
    return config


SYSTEMS = Registry(
    "system",
    {
        control.__name__: control
        for control in (topk_2e3, da_moe_4e3, da_moe_relative_4e3, thor_mild, rdrop_mild)
    },
    others="; your own system needs a separate file (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the control `name`."""
    return SYSTEMS.find(name)()
