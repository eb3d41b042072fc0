"""A fixed number of experts: each token gets 2 of four, by a learned router.

python -m automoe_jax.main --config=configs/classify/top2.py --workdir=runs/top2
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Top-2 gates, balancing loss 0.01."""
    config = _COMMON["mixture"]()
    config.space.top_k = (2,)
    return config
