"""THOR (arXiv 2110.04260): experts without a router in every second layer, drawn at random and made
consistent with one another.

    python -m automoe_jax.main --config=configs/systems/thor.py --workdir=runs/thor

Two passes an update, so each update costs twice. docs/systems/thor.md says what is the paper's and
what is not.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Four experts in layers 1 and 3, α = 5."""
    config = _COMMON["mixture"]()
    config.space.expert_layers_every = 2
    config.router.kind = "random"
    config.retrain.passes = 2
    config.retrain.consistency = 5.0
    return config
