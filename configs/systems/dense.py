"""The dense Transformer that the other systems are compared with.

    python -m automoe_jax.main --config=configs/systems/dense.py --workdir=runs/dense

No experts, no search. Sizes and schedule: common.py.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """The common settings as they are."""
    config = _COMMON["base"]()
    return config
