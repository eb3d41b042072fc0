"""What the classifiers of this folder have in common: the text, the encoder and the training that
make them comparable.

The files beside this one are the experiments: DA-MoE's number of experts for each token against the
same for all, on the task of its paper's kind. All of them at once, with a table at the end:

    python -m automoe_jax.compare --configs=configs/classify --seeds=1,2 --workdir=runs/classify
    --baseline=top1
"""

from ml_collections import ConfigDict

from automoe_jax.config import default_config

EXPERTS = 4


def mixture() -> ConfigDict:
    """The section of a Debian package from its description, for two CPU cores; an encoder of 3
    layers of four experts.
    """
    config = default_config()
    config.task = "classify"
    config.data.source = "debian"
    config.data.vocab_size = 4000
    config.data.buckets = (32, 64, 96, 128)
    config.data.validation_pairs = 2000
    config.data.test_pairs = 4000

    config.space.qkv_dim = 128
    config.space.encoder_embed_dims = config.space.decoder_embed_dims = (128,)
    config.space.encoder_layers = (3,)
    config.space.decoder_layers = (0,)
    config.space.encoder_self_heads = config.space.decoder_self_heads = (
        config.space.decoder_cross_heads
    ) = (4,)
    config.space.cross_layers = (1,)
    config.space.encoder_experts = (EXPERTS,)
    config.space.decoder_experts = (1,)
    config.space.expert_ffn_dims = (256,)

    train = config.retrain
    train.steps = 1000
    train.tokens_per_batch = 4096
    train.learning_rate = 2e-3
    train.warmup_steps = 200
    train.balance_loss = 0.01
    train.evaluate_every = train.checkpoint_every = 100
    train.dense_baseline = False
    config.search.source_length = 64
    config.evaluate.latency_runs = 100
    return config
