"""WMT'14 English–French: the space and schedule of wmt_supernet.py on another text.

    python -m automoe_jax.main --config=configs/wmt14_en_fr.py --workdir=runs/wmt14_en_fr
    python -m automoe_jax.main --config=configs/wmt14_en_fr.py:16 --workdir=runs/wmt14_en_fr_16

Up to 6 experts per layer, or the number after the colon; the paper has 6 and 16. The vocabulary is
as large as that of WMT'14 English–German. Hardware, time and result: not run.
"""

import wmt_supernet
from ml_collections import ConfigDict


def get_config(experts: str = "6") -> ConfigDict:
    """The published setting on English–French."""
    config = wmt_supernet.get_config(experts)
    config.data.name = "wmt14_translate/fr-en"
    config.data.target_language = "fr"
    return config
