"""DA-MoE on the classification of short texts, of 10 to 24 tokens, as most tasks of GLUE have them.

    python -m automoe_jax.main --config=configs/classify_short.py:da_moe --workdir=runs/short_da_moe
    python -m automoe_jax.compare --configs=configs/classify_short --seeds=1,2 \
        --workdir=runs/classify_short --baseline=top1

The systems and the task of configs/classify.py: the section of a Debian package. A text is the
title of the package and the start of its description, cut at 24 tokens. Attention is less diffuse
there, so the largest weight that a token receives, its importance, exceeds a quarter more often.

Accuracy, means of seeds 1 and 2, each 5 to 8 minutes on one core of an AMD EPYC: da_moe_raw 69.7,
top1 and da_moe_given 69.3, top2 69.2, da_moe 69.1, da_moe_relative 69.0; no difference is beyond
its interval (docs/results/classification.md). top1_gate_one has not run.
"""

import classify
from ml_collections import ConfigDict

SYSTEMS = classify.SYSTEMS


def get_config(name: str = "") -> ConfigDict:
    """The settings of the system `name` on short texts."""
    config = SYSTEMS.find(name)()
    config.data.buckets = (16, 24)
    config.search.source_length = 24
    config.retrain.tokens_per_batch = 2048
    return config
