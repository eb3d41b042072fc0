"""THOR against Switch on little text, trained four times as long as configs/low_resource.py.

    python -m automoe_jax.main --config=configs/low_resource_long.py:thor --workdir=runs/long_thor
    python -m automoe_jax.compare --configs=configs/low_resource_long --seeds=1 \
        --workdir=runs/low_resource_long --baseline=switch

`thor_4e3` and `switch_4e3` of configs/low_resource.py with 14 000 updates, 120 epochs of the 10 000
pairs. With the inverse square root the learning rate of an update does not depend on the length, so
their first 3500 updates are those of the shorter runs. Weights are saved, validated and averaged at
the same fractions of the training.

BLEU with seed 1: `switch` 18.8 (61 minutes on one core), `thor` 15.3 (144).
"""

import functools

import low_resource
from ml_collections import ConfigDict

from automoe_jax.registry import Registry

COMPARED = ("switch", "thor")
LONGER = 4


def prolonged(system: str) -> ConfigDict:
    """The settings of a system of configs/low_resource.py at its higher rate, for more updates."""
    config = low_resource.SYSTEMS[f"{system}_4e3"]()
    train = config.retrain
    for field in ("steps", "evaluate_every", "checkpoint_every"):
        train[field] *= LONGER
    return config


SYSTEMS = Registry(
    "system",
    {system: functools.partial(prolonged, system) for system in COMPARED},
    others="; your own system needs a separate file (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the system `name`."""
    return SYSTEMS.find(name)()
