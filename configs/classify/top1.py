"""A fixed number of experts: each token gets 1 of four, by a learned router.

python -m automoe_jax.main --config=configs/classify/top1.py --workdir=runs/top1
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Top-1 gates, balancing loss 0.01."""
    config = _COMMON["mixture"]()
    config.space.top_k = (1,)
    return config
