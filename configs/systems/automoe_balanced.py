"""AutoMoE whose winner is retrained with a balancing loss: without one its decoder's router all but
collapses onto one expert.

    python -m automoe_jax.main --config=configs/systems/automoe_balanced.py
    --workdir=runs/automoe_balanced

All else is as in automoe.py. `compare` takes over its SuperNet and its search too, so that the
architecture is the same; a search made anew on another kind of processor may end elsewhere, because
rounding differs.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """A search among up to four experts a layer; balancing loss 0.01 in the retraining alone."""
    config = _COMMON["searched"](_COMMON["EXPERTS"])
    config.retrain.balance_loss = 0.01
    return config
