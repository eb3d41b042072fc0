"""THOR where its paper claims the most: little text, trained to convergence with its own recipe.

    python -m automoe_jax.main --config=configs/low_resource.py:thor --workdir=runs/low_thor
    python -m automoe_jax.compare --configs=configs/low_resource --seeds=1,2 \
        --workdir=runs/low_resource

10 000 training pairs of the Debian text, 3500 updates, 30 epochs. All systems have the settings of
THOR's IWSLT'14 script: two experts in every second layer, inverse square root decay, dropout 0.3,
weight decay 1e-4; its 4000 updates of warm-up are scaled to this length. `switch` has the
parameters of `thor` and a router; `rdrop` has its two passes and its loss without experts.
Projected on one CPU core: 30 to 70 minutes a run, 7 hours for two seeds of all. Not run.
"""

import systems
from ml_collections import ConfigDict

from automoe_jax.registry import Registry

COMPARED = ("dense", "rdrop", "switch", "thor")  # in configs/systems.py
PAIRS = 10_000


SYSTEMS = Registry(
    "system",
    {name: systems.SYSTEMS[name] for name in COMPARED},
    others="; your own system needs a separate file (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the system `name` with THOR's recipe on little text."""
    config = SYSTEMS.find(name)()
    config.data.pairs = PAIRS
    config.model.dropout = 0.3
    config.model.attention_dropout = 0.0
    if name in ("switch", "thor"):
        config.space.encoder_experts = config.space.decoder_experts = (2,)
        config.space.expert_layers_every = 2
    for train in (config.supernet, config.retrain):
        train.learning_rate = 1e-3
        train.schedule = "inverse_sqrt"
        train.weight_decay = 1e-4
    return config
