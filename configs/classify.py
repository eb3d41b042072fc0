"""DA-MoE on classification: a variable number of experts per token against a fixed one.

The task is to predict the section of a Debian package from its description. Run one system, by its
name after the colon, or compare all:

    python -m automoe_jax.main --config=configs/classify.py:da_moe --workdir=runs/da_moe_sections
    python -m automoe_jax.compare --configs=configs/classify --seeds=1,2 --workdir=runs/classify \
        --baseline=top1

Results in the docstrings: accuracy in percent of seeds 1 and 2 after 1000 updates, 2 to 5 minutes
of training on one core of an AMD EPYC (docs/results/classification.md). The text comes from apt,
on Debian or Ubuntu.
"""

from ml_collections import ConfigDict

from automoe_jax.config import default_config
from automoe_jax.registry import Registry

EXPERTS = 4


def top1() -> ConfigDict:
    """One of four experts for each token, by a learned router.

    Accuracy 72.9, 72.5.
    """
    config = mixture()
    config.space.top_k = (1,)
    return config


def top2() -> ConfigDict:
    """Two of four experts for each token, by a learned router.

    Accuracy 73.2, 72.2.
    """
    config = mixture()
    config.space.top_k = (2,)
    return config


def da_moe() -> ConfigDict:
    """DA-MoE (arXiv 2409.06669): a token's number of experts follows the attention it receives.

    Gates are renormalised. Accuracy 71.7, 71.8.
    """
    config = mixture()
    config.router.kind = "importance"
    return config


def da_moe_relative() -> ConfigDict:
    """DA-MoE by importance relative to the largest of the text, so that the number of experts
    spreads over 1 to 4 in long texts too.

    Accuracy 71.7, 71.6.
    """
    config = da_moe()
    config.router.importance = "relative_received"
    return config


def da_moe_given() -> ConfigDict:
    """DA-MoE by the attention that a token gives, which results in more experts per token.

    Accuracy 71.6, 71.6.
    """
    config = da_moe()
    config.router.importance = "given"
    return config


def da_moe_raw() -> ConfigDict:
    """DA-MoE with raw gates, as `top1` and `top2` have them: the effect of the renormalisation.

    Accuracy 73.5, 73.1.
    """
    config = da_moe()
    config.router.renormalise = False
    return config


def top1_gate_one() -> ConfigDict:
    """`top1` whose gates are p / stop_gradient(p): 1 for any output of the router, which still has
    a gradient. DA-MoE's renormalised gates are 1 for a token with one expert.

    Accuracy 71.7, 71.8.
    """
    config = top1()
    config.router.gate = "one"
    return config


def mixture() -> ConfigDict:
    """The text, an encoder of three layers of four experts, and the training that all share."""
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
    config.space.encoder_self_heads = config.space.decoder_self_heads = (4,)
    config.space.decoder_cross_heads = (4,)
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


SYSTEMS = Registry(
    "system",
    {
        system.__name__: system
        for system in (
            top1,
            top2,
            da_moe,
            da_moe_relative,
            da_moe_given,
            da_moe_raw,
            top1_gate_one,
        )
    },
    others="; your own system needs a separate file (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the system `name`."""
    return SYSTEMS.find(name)()
