"""DA-MoE (arXiv 2409.06669) on classification: each token gets as many of four experts as its share
of the attention deserves.

python -m automoe_jax.main --config=configs/classify/da_moe.py --workdir=runs/da_moe_sections
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Experts by importance, gates renormalised, balancing loss 0.01."""
    config = _COMMON["mixture"]()
    config.router.kind = "importance"
    return config
