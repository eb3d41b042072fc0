"""No router: every token goes to an expert drawn at random, anew in every update.

    python -m automoe_jax.main --config=configs/systems/random_token.py --workdir=runs/random_token

What a learned router is worth, by comparison with topk.py.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Four experts a layer, one per token."""
    config = _COMMON["mixture"]()
    config.router.kind = "random"
    config.router.draw = "token"
    return config
