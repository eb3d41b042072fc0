"""THOR where its paper claims the most: little text, trained with its own recipe.

    python -m automoe_jax.main --config=configs/low_resource.py:thor --workdir=runs/low_thor
    python -m automoe_jax.compare --configs=configs/low_resource --seeds=1,2 \
        --workdir=runs/low_resource

10 000 training pairs of the Debian text, 3500 updates, 30 epochs. All systems have the settings of
THOR's IWSLT'14 script: inverse square root decay, dropout 0.3, weight decay 1e-4; its 4000 updates
of warm-up are scaled to this length. `thor` and `switch` have two experts in every second layer and
equal parameters, `switch` with a router; `rdrop` has THOR's two passes and its loss without
experts, `dense` neither.

The script's learning rate, 1e-3, is for a width of 512. At the width of 128 here, neither `switch`
nor `thor` has converged with it after 3500 updates. `NAME_4e3` trains at 4e-3, the rate of most
systems in configs/systems.py.

BLEU on one core: `switch` 10.3 (12 min), `thor` 6.6 (35 min) with seed 1; `switch_4e3` 14.1 and
14.6, `thor_4e3` 9.8 and 10.1 with seeds 1 and 2 (docs/RESULTS.md). The others have not run;
projected: `dense` 12 minutes, `rdrop` 35.
"""

import functools

import systems
from ml_collections import ConfigDict

from automoe_jax.registry import Registry

COMPARED = ("dense", "rdrop", "switch", "thor")  # in configs/systems.py
PAIRS = 10_000
RATES = {"": 1e-3, "_4e3": 4e-3}  # by the end of a system's name


def recipe(system: str, learning_rate: float) -> ConfigDict:
    """The settings of a system of configs/systems.py with THOR's recipe on little text."""
    config = systems.SYSTEMS[system]()
    config.data.pairs = PAIRS
    config.model.dropout = 0.3
    config.model.attention_dropout = 0.0
    if system in ("switch", "thor"):
        config.space.encoder_experts = config.space.decoder_experts = (2,)
        config.space.expert_layers_every = 2
    for train in (config.supernet, config.retrain):
        train.learning_rate = learning_rate
        train.schedule = "inverse_sqrt"
        train.weight_decay = 1e-4
    return config


SYSTEMS = Registry(
    "system",
    {
        f"{system}{end}": functools.partial(recipe, system, rate)
        for end, rate in RATES.items()
        for system in COMPARED
    },
    others="; your own system needs a separate file (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the system `name`."""
    return SYSTEMS.find(name)()
