"""Random search: as many candidates as AutoMoE's evolution scores, drawn evenly under the same
limit, with the same SuperNet.

    python -m automoe_jax.main --config=configs/systems/random_search.py
    --workdir=runs/random_search

docs/systems/baselines.md says more.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """The first population is all there is."""
    config = _COMMON["searched"](_COMMON["EXPERTS"])
    config.search.population += config.search.iterations * (
        config.search.mutations + config.search.crossovers
    )
    config.search.iterations = 0
    return config
