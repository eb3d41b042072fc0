"""THOR without its consistency term: what that term does to the disagreement between experts.

    python -m automoe_jax.main --config=configs/systems/thor_apart.py --workdir=runs/thor_apart

All else is as in thor.py.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """α = 0; the disagreement is measured all the same."""
    config = _COMMON["mixture"]()
    config.space.expert_layers_every = 2
    config.router.kind = "random"
    config.retrain.passes = 2
    return config
