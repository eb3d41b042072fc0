"""Systems of the comparison, trained under one protocol on Debian's package descriptions, English
to German.

Run one of them, by its name after the colon, or compare all:

    python -m automoe_jax.main --config=configs/systems.py:thor --workdir=runs/thor
    python -m automoe_jax.compare --configs=configs/systems --seeds=1,2 --workdir=runs/systems

Results in the docstrings: BLEU of seeds 1 and 2, each with the minutes of its training, on two CPU
cores (Intel Xeon, 2.5 GHz; an asterisk marks a Xeon about twice as fast), 870 updates, about 1.8
million target tokens; docs/results/systems has every run. They are from before 2026-11-25: hidden
units then dropped at the dropout rate, and every system started from Xavier's weights, where each
now has those of its authors' code (`model.ffn_init`). "Not run" marks systems without results, and
searches whose results are from an earlier space, in which everything within the limit had 2 + 1
layers. The text comes from apt, on Debian or Ubuntu. docs/systems lists each system's differences
from its paper.
"""

from ml_collections import ConfigDict

from automoe_jax.config import default_config
from automoe_jax.registry import Registry

EXPERTS = 4
MAX_FLOPS = 28.9e6  # a third of the dense Transformer's 86.9e6


def dense() -> ConfigDict:
    """A dense Transformer of 3 + 3 layers, the baseline of the others; no search.

    BLEU 6.4 (8 min), 6.7 (11 min).
    """
    return base()


def dense_budget() -> ConfigDict:
    """A dense Transformer of the budget of the searches: 2 + 1 layers with an FFN of 240.

    Its 28.7 MFLOPs are just below their limit; no search. Not run.
    """
    config = base()
    config.space.encoder_layers = (2,)
    config.space.decoder_layers = (1,)
    config.space.expert_ffn_dims = (240,)
    return config


def rdrop() -> ConfigDict:
    """R-Drop (arXiv 2106.14448): `dense` with THOR's two passes and loss, α = 5; the control of
    `thor` without experts.

    Each update has two passes. Not run.
    """
    config = base()
    config.retrain.passes = 2
    config.retrain.consistency = 5.0
    return config


def topk() -> ConfigDict:
    """AutoMoE's router without a search: the most probable of four experts, none dropped.

    BLEU 9.6 (10 min), 9.1 (12 min).
    """
    config = mixture()
    config.retrain.balance_loss = 0.01
    return config


def topk_gate_one() -> ConfigDict:
    """`topk` whose gates are p / stop_gradient(p): the effect of a gate below 1 on the scale of the
    experts. Not run.
    """
    config = topk()
    config.router.gate = "one"
    return config


def switch() -> ConfigDict:
    """Switch Transformer (arXiv 2101.03961): tokens beyond an expert's capacity are dropped.

    BLEU 9.6 (16 min), 9.2 (10 min *).
    """
    config = mixture()
    config.router.capacity_factor = 1.25
    config.router.jitter = 0.01
    config.model.ffn_init = "truncated_normal"
    config.retrain.balance_loss = 0.01
    config.retrain.balance_layers = "sum"
    return config


def random_token() -> ConfigDict:
    """No router: every token's expert is drawn again in every update; the control of `topk`.

    BLEU 3.6 (12 min), 3.7 (9 min *).
    """
    config = mixture()
    config.router.kind = "random"
    config.router.draw = "token"
    return config


def random_word() -> ConfigDict:
    """No router: every word piece has a fixed expert in each layer; the control of `topk`.

    BLEU 6.9 (11 min), 7.2 (9 min *).
    """
    config = mixture()
    config.router.kind = "random"
    config.router.draw = "fixed"
    return config


def thor() -> ConfigDict:
    """THOR (arXiv 2110.04260): random experts in layers 1 and 3, made consistent, α = 5.

    Each update has two passes. BLEU 0.5 (21 min), 2.2 (20 min *).
    """
    config = thor_apart()
    config.retrain.consistency = 5.0
    return config


def thor_mild() -> ConfigDict:
    """THOR with α = 1.

    BLEU 2.9 (25 min), 1.6 (35 min).
    """
    config = thor_apart()
    config.retrain.consistency = 1.0
    return config


def thor_apart() -> ConfigDict:
    """THOR with α = 0: shows the effect of the consistency loss on the disagreement between
    experts.

    BLEU 3.1 (34 min), 3.1 (20 min *).
    """
    config = mixture()
    config.model.ffn_init = "linear"
    config.space.expert_layers_every = 2
    config.router.kind = "random"
    config.retrain.passes = 2
    return config


def thor_recipe() -> ConfigDict:
    """THOR with the settings of its IWSLT'14 script: two experts, inverse square root, dropout 0.3,
    weight decay 1e-4; the warm-up of 4000 updates is scaled to this run. Not run.
    """
    config = thor()
    config.space.encoder_experts = config.space.decoder_experts = (2,)
    config.model.dropout = 0.3
    train = config.retrain
    train.learning_rate = 1e-3
    train.schedule = "inverse_sqrt"
    train.weight_decay = 1e-4
    return config


def da_moe() -> ConfigDict:
    """DA-MoE (arXiv 2409.06669): a token's number of experts follows the attention it receives.

    Gates are renormalised. BLEU 6.4 (12 min), 5.9 (19 min).
    """
    config = mixture()
    config.router.kind = "importance"
    config.retrain.balance_loss = 0.01
    return config


def da_moe_raw() -> ConfigDict:
    """DA-MoE with raw gates, as `topk` has them: the effect of the renormalisation.

    BLEU 9.7 (21 min), 9.4 (13 min *).
    """
    config = da_moe()
    config.router.renormalise = False
    return config


def da_moe_relative() -> ConfigDict:
    """`da_moe` with importance relative to the largest of the sentence, so that K spreads over 1 to
    4 in long sentences too. Not run.
    """
    config = da_moe()
    config.router.importance = "relative_received"
    return config


def hat() -> ConfigDict:
    """HAT (arXiv 2005.14187): the search of `automoe` among dense sub-Transformers only.

    Not run in this space; before: BLEU 8.3 (4 min, SuperNet and search 11 min), 8.4 (6 min,
    14 min).
    """
    return searched(1)


def automoe() -> ConfigDict:
    """AutoMoE (arXiv 2210.07535): a search among up to four experts of different width a layer.

    Not run in this space; before: BLEU 8.2 (4 min, SuperNet and search 13 min), 8.1 (5 min,
    14 min).
    """
    return searched(EXPERTS)


def automoe_balanced() -> ConfigDict:
    """AutoMoE whose result is trained with a balancing loss, against collapse of its routers.

    `compare` reuses the SuperNet and the search of `automoe`, so the architecture is the same. Not
    run in this space; before: BLEU 8.2 (9 min), 7.9 (3 min *).
    """
    config = automoe()
    config.retrain.balance_loss = 0.01
    return config


def automoe_fast() -> ConfigDict:
    """AutoMoE for low latency of one sentence: a decoder of one layer of half the width.

    Each step of decoding reads the decoder's weights and the projection to the vocabulary once. So
    the decoder is small, and the search has the FLOPs for the encoder. Not run in this space;
    before: BLEU 4.4 (6 min, SuperNet and search 11 min), 5.2 (4 min *, 7 min *).
    """
    config = automoe()
    config.space.decoder_embed_dims = (64,)
    config.space.decoder_layers = (1,)
    config.space.decoder_experts = (1, 2)
    config.space.expert_ffn_dims = (128, 256)
    return config


def random_search() -> ConfigDict:
    """As many architectures as `automoe` scores, drawn at random; the same SuperNet and limit.

    Not run in this space; before: BLEU 8.5 (6 min, SuperNet and search 14 min), 7.8 (10 min,
    14 min).
    """
    config = automoe()
    config.search.algorithm = "random"
    return config


def base() -> ConfigDict:
    """The text, the sizes and the training that all systems share, with a space of one dense
    Transformer.
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
    """The dense Transformer with four experts of its size in every layer: one expert per token
    costs as much.
    """
    config = base()
    config.space.encoder_experts = config.space.decoder_experts = (EXPERTS,)
    return config


def searched(most_experts: int) -> ConfigDict:
    """A search for a third of the dense Transformer's FLOPs among smaller Transformers with at most
    `most_experts` experts a layer.

    The limit admits 28 % of even draws with up to four experts and 30 % with one. Of those, in both
    cases, 36 to 42 % have 1 + 1 layers, 28 % 2 + 1, 18 % 1 + 2 and the others more, up to 3 + 1 and
    1 + 3; 30 to 34 % have a decoder of width 128, the others of 64. Layers have 1 to 4 experts.
    """
    config = base()
    config.space.decoder_embed_dims = (64, 128)
    config.space.encoder_layers = (1, 2, 3)
    config.space.decoder_layers = (1, 2, 3)
    config.space.encoder_self_heads = (2, 4)
    config.space.decoder_self_heads = (2, 4)
    config.space.decoder_cross_heads = (2, 4)
    config.space.encoder_experts = config.space.decoder_experts = tuple(range(1, most_experts + 1))
    config.space.expert_ffn_dims = (64, 128, 256, 512)

    config.search.iterations = 6
    config.search.population = 50
    config.search.parents = 12
    config.search.mutations = 20
    config.search.crossovers = 20
    config.search.max_flops = MAX_FLOPS
    config.search.validation_tokens = 8192
    return config


SYSTEMS = Registry(
    "system",
    {
        system.__name__: system
        for system in (
            dense,
            dense_budget,
            rdrop,
            topk,
            topk_gate_one,
            switch,
            random_token,
            random_word,
            thor,
            thor_mild,
            thor_apart,
            thor_recipe,
            da_moe,
            da_moe_raw,
            da_moe_relative,
            hat,
            automoe,
            automoe_balanced,
            automoe_fast,
            random_search,
        )
    },
    others="; a system of your own is a file of its own (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the system `name`."""
    return SYSTEMS.find(name)()
