"""A whole experiment in seconds: the smallest with experts, depth and a search. For tests only."""

from ml_collections import ConfigDict

from automoe_jax.config import default_config


def get_config() -> ConfigDict:
    """Width 16, up to 1+2 layers of up to 2 experts."""
    config = default_config()
    config.data.pairs = 400
    config.data.validation_pairs = 40
    config.data.test_pairs = 24
    config.data.vocab_size = 320
    config.data.buckets = (72,)
    config.space.qkv_dim = 16
    config.space.encoder_embed_dims = (16,)
    config.space.decoder_embed_dims = (16,)
    config.space.encoder_layers = (1,)
    config.space.decoder_layers = (1, 2)
    config.space.encoder_self_heads = config.space.decoder_self_heads = (
        config.space.decoder_cross_heads
    ) = (1, 2)
    config.space.cross_layers = (1,)
    config.space.encoder_experts = config.space.decoder_experts = (1, 2)
    config.space.expert_ffn_dims = (16, 32)
    for train in (config.supernet, config.retrain):
        train.steps = 12
        train.tokens_per_batch = 720
        train.warmup_steps = 4
        train.log_every = 2
        train.evaluate_every = train.checkpoint_every = 3
    config.supernet.within_limits = False  # a SuperNet for searches under any limit
    config.search.iterations = 2
    config.search.population = 8
    config.search.parents = 3
    config.search.mutations = config.search.crossovers = 3
    config.search.validation_tokens = 720
    config.evaluate.beam_size = 2
    config.evaluate.batch_size = 8
    config.evaluate.samples = 2
    return config
