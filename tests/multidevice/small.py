"""Small experiment for two processes in all stages: one shape of everything. For tests only."""

from ml_collections import ConfigDict

from automoe_jax.config import default_config


def get_config() -> ConfigDict:
    """Width 16, one layer per side, up to 2 experts in the decoder; batches of 8 sentences for 8
    devices.
    """
    config = default_config()
    config.data.pairs = 400
    config.data.validation_pairs = 16
    config.data.test_pairs = 8
    config.data.vocab_size = 320
    config.data.buckets = (72,)
    config.space.qkv_dim = 16
    config.space.encoder_embed_dims = (16,)
    config.space.decoder_embed_dims = (16,)
    config.space.encoder_layers = (1,)
    config.space.decoder_layers = (1,)
    config.space.encoder_self_heads = config.space.decoder_self_heads = (
        config.space.decoder_cross_heads
    ) = (2,)
    config.space.cross_layers = (1,)
    config.space.encoder_experts = (1,)
    config.space.decoder_experts = (1, 2)
    config.space.expert_ffn_dims = (16, 32)
    for train in (config.supernet, config.retrain):
        train.steps = 12
        train.tokens_per_batch = 1152
        train.warmup_steps = 4
        train.log_every = 2
        train.evaluate_every = train.checkpoint_every = 3
    config.mesh.data = 4
    config.mesh.expert = 2
    config.fsdp = True
    config.supernet.steps = 20
    config.search.iterations = 1
    config.search.population = 3
    config.search.parents = 2
    config.search.mutations = config.search.crossovers = 1
    config.search.validation_tokens = 576
    config.retrain.dense_baseline = False
    config.evaluate.beam_size = 1
    config.evaluate.batch_size = 8
    config.evaluate.samples = 1
    return config
