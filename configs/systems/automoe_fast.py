"""AutoMoE for a user who waits for one sentence: the same limit on FLOPs, and a decoder of one
narrow layer.

    python -m automoe_jax.main --config=configs/systems/automoe_fast.py --workdir=runs/automoe_fast

A lone sentence's time is its decoder's: every step reads the decoder's weights and the projection
to the vocabulary once, however few rows they multiply. So the decoder has one layer of half the
width and at most two experts, and the search spends the FLOPs on the encoder.
docs/systems/automoe.md says what is the paper's and what is not.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_COMMON = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
    """Two or three encoder layers of up to four experts, and one decoder layer of up to two."""
    config = _COMMON["searched"](_COMMON["EXPERTS"])
    config.space.decoder_embed_dims = (64,)
    config.space.decoder_layers = (1,)
    config.space.decoder_experts = (1, 2)
    config.space.expert_ffn_dims = (128, 256)
    return config
