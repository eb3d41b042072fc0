"""A learned router: the most probable expert of four for every token, none dropped (AutoMoE's own
router, without a search).

    python -m automoe_jax.main --config=configs/systems/topk.py --workdir=runs/topk

What random_token.py and random_word.py are compared with.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Four experts a layer, one per token, weighed by its probability."""
    config = _COMMON["mixture"]()
    config.retrain.balance_loss = 0.01
    return config
