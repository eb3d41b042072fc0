"""DA-MoE with raw gates, as `topk` has them: what the renormalisation does to a router whose tokens
mostly get one expert.

python -m automoe_jax.main --config=configs/systems/da_moe_raw.py --workdir=runs/da_moe_raw

All else is as in da_moe.py.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Experts by importance, balancing loss 0.01."""
    config = _COMMON["mixture"]()
    config.router.kind = "importance"
    config.router.renormalise = False
    config.retrain.balance_loss = 0.01
    return config
