"""What the systems of this folder have in common: the text, the sizes and the training that make
them comparable.

The files beside this one are the experiments. All of them at once, with a table at the end:

    python -m automoe_jax.compare --configs=configs/systems --seeds=1,2 --workdir=runs/systems
"""

from ml_collections import ConfigDict

from automoe_jax.config import default_config

EXPERTS = 4
MAX_FLOPS = 28.9e6  # a third of the dense Transformer's 86.9e6


def base() -> ConfigDict:
    """Debian package descriptions, English to German, for two CPU cores; a space of one dense
    Transformer of 3 + 3 layers.
    """
    config = default_config()
    config.data.source = "debian"
    config.data.vocab_size = 4000
    config.data.buckets = (16, 24, 36, 64)
    config.data.test_pairs = 2000

    config.space.qkv_dim = 128
    config.space.encoder_embed_dims = (128,)
    config.space.decoder_embed_dims = (128,)
    config.space.encoder_layers = (3,)
    config.space.decoder_layers = (3,)
    config.space.encoder_self_heads = (4,)
    config.space.decoder_self_heads = (4,)
    config.space.decoder_cross_heads = (4,)
    config.space.cross_layers = (1,)
    config.space.encoder_experts = (1,)
    config.space.decoder_experts = (1,)
    config.space.expert_ffn_dims = (512,)

    for train in (config.supernet, config.retrain):
        train.steps = 870
        train.tokens_per_batch = 2624
        train.learning_rate = 3e-3
        train.warmup_steps = 300
        train.evaluate_every = 100
        train.checkpoint_every = 100
    config.retrain.learning_rate = 4e-3
    config.retrain.dense_baseline = False
    config.evaluate.latency_runs = 100
    return config


def mixture() -> ConfigDict:
    """The dense Transformer with four experts of its size in every layer, so that one expert per
    token costs as much.
    """
    config = base()
    config.space.encoder_experts = config.space.decoder_experts = (EXPERTS,)
    return config


def searched(most_experts: int) -> ConfigDict:
    """A search for a third of the dense Transformer's FLOPs among smaller ones with up to so many
    experts a layer.
    """
    config = base()
    config.space.encoder_layers = (2, 3)
    config.space.decoder_layers = (1, 2, 3)
    config.space.encoder_self_heads = (2, 4)
    config.space.decoder_self_heads = (2, 4)
    config.space.decoder_cross_heads = (2, 4)
    config.space.encoder_experts = config.space.decoder_experts = tuple(range(1, most_experts + 1))
    config.space.expert_ffn_dims = (128, 256, 512)
    config.search.iterations = 6
    config.search.population = 50
    config.search.parents = 12
    config.search.mutations = 20
    config.search.crossovers = 20
    config.search.max_flops = MAX_FLOPS
    config.search.validation_tokens = 8192
    return config
