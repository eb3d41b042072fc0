"""DA-MoE on classification with raw gates, as the fixed numbers of experts have them: what the
renormalisation does.

python -m automoe_jax.main --config=configs/classify/da_moe_raw.py --workdir=runs/da_moe_raw
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
    return config
