"""DA-MoE on classification, a token's importance being the attention it gives: more experts than by
what it receives.

python -m automoe_jax.main --config=configs/classify/da_moe_given.py --workdir=runs/da_moe_given
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Experts by importance, gates renormalised, balancing loss 0.01."""
    config = _COMMON["mixture"]()
    config.router.kind = "importance"
    config.router.importance = "given"
    return config
