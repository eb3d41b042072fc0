"""WMT'19 English–German: the space and schedule of wmt_supernet.py on another text.

    python -m automoe_jax.main --config=configs/wmt19_en_de.py --workdir=runs/wmt19_en_de
    python -m automoe_jax.main --config=configs/wmt19_en_de.py:16 --workdir=runs/wmt19_en_de_16

Up to 6 experts per layer, or the number after the colon; the paper has 6 and 16. The vocabulary is
as large as that of WMT'14 English–German. Hardware, time and result: not run.
"""

import wmt_supernet
from ml_collections import ConfigDict


def get_config(experts: str = "6") -> ConfigDict:
    """The published setting on the larger English–German text."""
    config = wmt_supernet.get_config(experts)
    config.data.name = "wmt19_translate/de-en"
    return config
