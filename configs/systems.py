"""Systems of the comparison, trained under one protocol on Debian's package descriptions, English
to German.

Run one of them, by its name after the colon, or compare all:

    python -m automoe_jax.main --config=configs/systems.py:thor --workdir=runs/thor
    python -m automoe_jax.compare --configs=configs/systems --seeds=1,2 --workdir=runs/systems

Every system trains 3500 updates of about 2000 target tokens: 8 epochs of the text. Variants of
these systems are in configs/variants.py. The text comes from apt, on Debian or Ubuntu. docs/systems
lists each system's differences from its paper.

Projected on two CPU cores: 15 to 50 minutes a run, 10 hours for two seeds of all. Results
under the protocol before 2026-11-25 (3 + 3 layers, 870 updates) are in docs/results/systems.
"""

from ml_collections import ConfigDict

from automoe_jax.config import default_config
from automoe_jax.registry import Registry

EXPERTS = 4
MAX_FLOPS = 19.3e6  # a third of the dense Transformer's 58.0e6
UPDATES = 3500  # 8 epochs of 876 462 target tokens, of which an update has about 2026


def dense() -> ConfigDict:
    """A dense Transformer of 2 + 2 layers, the baseline of the others; no search.

    BLEU 21.4 (21.7 and 21.1 with seeds 1 and 2), trained in 32 minutes on one core
    (docs/results/eight_epochs).
    """
    return base()


def dense_budget() -> ConfigDict:
    """A dense Transformer of the budget of the searches: 1 + 1 layers with an FFN of 192.

    Its 19.2 MFLOPs are just below their limit; no search. BLEU 18.6 (18.7 and 18.4 with seeds 1 and
    2), trained in 14 minutes on one core (docs/results/eight_epochs).
    """
    config = base()
    config.space.encoder_layers = config.space.decoder_layers = (1,)
    config.space.expert_ffn_dims = (192,)
    return config


def dense_truncated() -> ConfigDict:
    """`dense` with Switch's initial weights: the control of what `switch` owes to them.

    BLEU 21.8 with seed 1, trained in 21 minutes on one core (docs/results/eight_epochs).
    """
    config = base()
    config.model.ffn_init = "truncated_normal"
    return config


def rdrop() -> ConfigDict:
    """R-Drop (arXiv 2106.14448): `dense` with THOR's two passes and loss, α = 5; the control of
    `thor` without experts.

    Each update has two passes. BLEU 18.4 with both seeds, trained in 48 minutes on one core
    (docs/results/eight_epochs).
    """
    config = base()
    config.retrain.passes = 2
    config.retrain.consistency = 5.0
    return config


def topk() -> ConfigDict:
    """AutoMoE's router without a search: the most probable of four experts, none dropped.

    BLEU 21.3 (21.6 and 21.0 with seeds 1 and 2), trained in 23 minutes on one core
    (docs/results/eight_epochs).
    """
    config = mixture()
    config.retrain.balance_loss = 0.01
    return config


def switch() -> ConfigDict:
    """Switch Transformer (arXiv 2101.03961): tokens beyond an expert's capacity are dropped.

    BLEU 21.6 (21.8 and 21.5 with seeds 1 and 2), trained in 36 minutes on one core
    (docs/results/eight_epochs).
    """
    config = mixture()
    config.router.capacity_factor = 1.25
    config.router.jitter = 0.01
    config.model.ffn_init = "truncated_normal"
    config.retrain.balance_loss = 0.01
    config.retrain.balance_layers = "sum"
    return config


def thor() -> ConfigDict:
    """THOR (arXiv 2110.04260): random experts in every second layer, made consistent, α = 5.

    Each update has two passes. BLEU 17.8 (18.0 and 17.5 with seeds 1 and 2), trained in 32 minutes
    on one core (docs/results/eight_epochs).
    """
    config = mixture()
    config.model.ffn_init = "linear"
    config.space.expert_layers_every = 2
    config.router.kind = "random"
    config.retrain.passes = 2
    config.retrain.consistency = 5.0
    return config


def da_moe() -> ConfigDict:
    """DA-MoE (arXiv 2409.06669): a token's number of experts follows the attention it receives.

    Gates are renormalised. BLEU 18.8 (19.1 and 18.5 with seeds 1 and 2), trained in
    32 minutes on one core (docs/results/eight_epochs).
    """
    config = mixture()
    config.router.kind = "importance"
    config.retrain.balance_loss = 0.01
    config.retrain.learning_rate = 2e-3  # docs/results/rates.md
    return config


def da_moe_relative() -> ConfigDict:
    """`da_moe` with importance relative to the largest of the sentence, so that K spreads over 1 to
    4 in long sentences too. BLEU 19.2 (19.4 and 19.0 with seeds 1 and 2), trained in 39
    minutes on one core (docs/results/eight_epochs).
    """
    config = da_moe()
    config.router.importance = "relative_received"
    return config


def hat() -> ConfigDict:
    """HAT (arXiv 2005.14187): the search of `automoe` among dense sub-Transformers only.

    BLEU 18.4 (18.6 and 18.3 with seeds 1 and 2) at 19.2 MFLOPs, in 40 minutes on one core
    (docs/results/eight_epochs).
    """
    return searched(1)


def automoe() -> ConfigDict:
    """AutoMoE (arXiv 2210.07535): a search among up to four experts of different width a layer.

    BLEU 18.2 (18.7 and 17.8 with seeds 1 and 2) at 17.6 MFLOPs, in 51 minutes on one core
    (docs/results/eight_epochs).
    """
    return searched(EXPERTS)


def random_search() -> ConfigDict:
    """As many architectures as `automoe` scores, drawn at random, with the same limit and a
    SuperNet of the same settings.

    BLEU 18.3 (18.4 and 18.2 with seeds 1 and 2) at 16.5 MFLOPs, in 20 minutes on one core
    (docs/results/eight_epochs).
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
    config.space.encoder_layers = (2,)
    config.space.decoder_layers = (2,)
    config.space.encoder_self_heads = (4,)
    config.space.decoder_self_heads = (4,)
    config.space.decoder_cross_heads = (4,)
    config.space.cross_layers = (1,)
    config.space.encoder_experts = (1,)
    config.space.decoder_experts = (1,)
    config.space.expert_ffn_dims = (512,)

    for train in (config.supernet, config.retrain):
        train.steps = UPDATES
        train.tokens_per_batch = 2624
        train.learning_rate = 3e-3
        train.warmup_steps = 400
        train.evaluate_every = 100
        train.checkpoint_every = 100
    # settings of the SuperNet that later defaults must not change
    config.supernet.sampling = "uniform"
    config.supernet.within_limits = True
    config.supernet.weight_sets = 1
    config.supernet.width_norms = False
    config.supernet.largest_steps = 0
    config.supernet.balance_loss = 0.0
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

    The limit admits 21 % of even draws with up to four experts and 22 % with one. Of those, 75 to
    87 % have 1 + 1 layers and the others 2 + 1 or 1 + 2; 29 to 32 % have a decoder of width 128,
    the others of 64. Layers have 1 to 4 experts.
    """
    config = base()
    config.space.decoder_embed_dims = (64, 128)
    config.space.encoder_layers = (1, 2)
    config.space.decoder_layers = (1, 2)
    config.space.encoder_self_heads = (2, 4)
    config.space.decoder_self_heads = (2, 4)
    config.space.decoder_cross_heads = (2, 4)
    config.space.encoder_experts = config.space.decoder_experts = tuple(range(1, most_experts + 1))
    config.space.expert_ffn_dims = (32, 64, 128, 256, 512)

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
            dense_truncated,
            rdrop,
            topk,
            switch,
            thor,
            da_moe,
            da_moe_relative,
            hat,
            automoe,
            random_search,
        )
    },
    others="; your own system needs a separate file (docs/EXTENDING.md)",
)


def get_config(name: str = "") -> ConfigDict:
    """The settings of the system `name`."""
    return SYSTEMS.find(name)()
