"""Switch Transformer (arXiv 2101.03961): one of four equal experts per token, those beyond an
expert's capacity dropped.

    python -m automoe_jax.main --config=configs/systems/switch.py --workdir=runs/switch

docs/systems/baselines.md says what is the paper's and what is not.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Capacity factor 1.25, balancing loss 0.01, jitter 0.01."""
    config = _COMMON["mixture"]()
    config.router.capacity_factor = 1.25
    config.router.jitter = 0.01
    config.retrain.balance_loss = 0.01
    return config
