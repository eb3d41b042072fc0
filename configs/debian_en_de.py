"""The whole pipeline on Debian's translated package descriptions, English to German.

    python -m automoe_jax.main --config=configs/debian_en_de.py --workdir=runs/debian_en_de

The text comes from apt, on Debian or Ubuntu. One core of an AMD EPYC that ran other work: 31 min;
BLEU 18.5 at 32.2 MFLOPs, the best dense Transformer within the limit 19.2 at 37.3, the largest 20.7
at 58.0 (seed 1, docs/results/debian.md).
"""

from ml_collections import ConfigDict

from automoe_jax.config import default_config


def get_config() -> ConfigDict:
    """A SuperNet of up to 2+2 layers, width 128 and 4 experts a layer, sized for two CPU cores."""
    config = default_config()
    config.data.source = "debian"
    config.data.vocab_size = 4000
    config.data.buckets = (16, 24, 36, 64)

    # lower validation losses than Xavier's, of the SuperNet and of all three networks
    config.model.ffn_init = "truncated_normal"

    config.space.qkv_dim = 128
    config.space.encoder_embed_dims = (128,)
    config.space.decoder_embed_dims = (96, 128)
    config.space.encoder_layers = (2,)
    config.space.decoder_layers = (1, 2)
    config.space.encoder_self_heads = (2, 4)
    config.space.decoder_self_heads = (2, 4)
    config.space.decoder_cross_heads = (2, 4)
    config.space.cross_layers = (1, 2)
    config.space.encoder_experts = (1, 2, 3, 4)
    config.space.decoder_experts = (1, 2, 3, 4)
    config.space.expert_ffn_dims = (128, 256, 512)

    config.supernet.steps = 1500
    config.supernet.tokens_per_batch = 2624  # of which about 2048 are not padding
    config.supernet.learning_rate = 3e-3
    config.supernet.warmup_steps = 400
    config.supernet.evaluate_every = 100
    config.supernet.checkpoint_every = 100

    config.search.iterations = 8
    config.search.population = 50
    config.search.parents = 12
    config.search.mutations = 20
    config.search.crossovers = 20
    config.search.max_flops = 38e6  # two thirds of the largest dense architecture's 58.5e6
    config.search.validation_tokens = 8192

    config.retrain.steps = 2500
    config.retrain.tokens_per_batch = 2624
    config.retrain.learning_rate = 4e-3
    config.retrain.warmup_steps = 400
    config.retrain.evaluate_every = 100
    config.retrain.checkpoint_every = 100
    return config
