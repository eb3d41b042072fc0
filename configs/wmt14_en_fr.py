"""WMT'14 English–French: the space and schedule of wmt_supernet.py beside this file, on other text.

    python -m automoe_jax.main --config=configs/wmt14_en_fr.py --workdir=runs/wmt14_en_fr
    python -m automoe_jax.main --config=configs/wmt14_en_fr.py:16 --workdir=runs/wmt14_en_fr_16

Up to 6 experts a layer, or as many as the number behind the colon; the paper has 6 and 16 for it.
The vocabulary is as large as that of WMT'14 English–German. Hardware and scores: not run yet.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_PAPER = runpy.run_path(str(pathlib.Path(__file__).with_name("wmt_supernet.py")))


def get_config(experts: str = "6") -> ConfigDict:
    """The published setting on English–French."""
    config = _PAPER["get_config"](experts)
    config.data.name = "wmt14_translate/fr-en"
    config.data.target_language = "fr"
    return config
