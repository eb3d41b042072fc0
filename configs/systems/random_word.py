"""No router: every word piece has an expert of its own in each layer, by a hash that never changes.

    python -m automoe_jax.main --config=configs/systems/random_word.py --workdir=runs/random_word

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
    config.router.draw = "fixed"
    return config
