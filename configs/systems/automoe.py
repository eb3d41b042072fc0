"""AutoMoE (arXiv 2210.07535): experts of different number and width, searched under a third of the
dense FLOPs.

    python -m automoe_jax.main --config=configs/systems/automoe.py --workdir=runs/automoe

docs/systems/automoe.md says what is the paper's and what is not.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """A search among up to four experts a layer."""
    config = _COMMON["searched"](_COMMON["EXPERTS"])
    return config
