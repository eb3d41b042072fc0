"""HAT (arXiv 2005.14187): the same search with one expert a layer, dense sub-Transformers only.

    python -m automoe_jax.main --config=configs/systems/hat.py --workdir=runs/hat

docs/systems/baselines.md says what is the paper's and what is not.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """A search with M = 1."""
    config = _COMMON["searched"](1)
    return config
