"""THOR with a fifth of its consistency term: at the paper's α a short training does not get beyond
the words' frequencies.

    python -m automoe_jax.main --config=configs/systems/thor_mild.py --workdir=runs/thor_mild

All else is as in thor.py.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Four experts in layers 1 and 3, α = 1."""
    config = _COMMON["mixture"]()
    config.space.expert_layers_every = 2
    config.router.kind = "random"
    config.retrain.passes = 2
    config.retrain.consistency = 1.0
    return config
