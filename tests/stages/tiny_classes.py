"""A classifier of short texts in seconds, with a search. For tests only."""

from ml_collections import ConfigDict

from automoe_jax.config import default_config


def get_config() -> ConfigDict:
    """Width 16, one or two layers of up to two experts."""
    config = default_config()
    config.task = "classify"
    config.data.source = "text"
    config.data.path = "named on the command line"
    config.data.validation_pairs = config.data.test_pairs = 50
    config.data.vocab_size = 320
    config.data.buckets = (24, 48)
    config.model.dropout = config.model.attention_dropout = 0.0
    config.space.qkv_dim = 16
    config.space.encoder_embed_dims = config.space.decoder_embed_dims = (16,)
    config.space.encoder_layers = (1, 2)
    config.space.decoder_layers = (0,)
    config.space.encoder_self_heads = (1, 2)
    config.space.encoder_experts = (1, 2)
    config.space.expert_ffn_dims = (16, 32)
    config.supernet.steps = 20
    config.retrain.steps = 80
    for train in (config.supernet, config.retrain):
        train.tokens_per_batch = 960
        train.learning_rate = 1e-2
        train.warmup_steps = 10
        train.evaluate_every = train.checkpoint_every = 20
    config.search.iterations = 1
    config.search.population = 6
    config.search.parents = 3
    config.search.mutations = config.search.crossovers = 2
    config.search.source_length = 16
    config.search.max_flops = 1.1e5
    config.search.validation_tokens = 960
    config.evaluate.samples = 2
    config.evaluate.latency_runs = 5
    return config
