"""The paper's setting: WMT'14 English–German, 40 000 updates of 524 288 tokens (AutoMoE, tables 2
and 5).

    python -m automoe_jax.main --config=configs/wmt_supernet.py --workdir=runs/wmt
    python -m automoe_jax.main --config=configs/wmt_supernet.py:16 --workdir=runs/wmt16

Up to 6 experts per layer, or the number after the colon; the paper has 2, 6 and 16. Prepare the
text once with `pip install "automoe_jax[data]"`. Hardware, time and result: not run.
"""

from ml_collections import ConfigDict

from automoe_jax.config import default_config
from automoe_jax.errors import UserError


def get_config(experts: str = "6") -> ConfigDict:
    """The published search space and schedule; the space's defaults are the paper's.

    The SuperNet trains what the limit of FLOPs admits; `supernet.within_limits = False` trains the
    whole space, as the paper does.
    """
    if not experts.isdecimal() or int(experts) < 1:
        raise UserError(
            f"{experts!r} behind the configuration's colon must be the most experts of a layer,"
            " such as 2, 6 or 16"
        )
    config = default_config()
    config.data.source = "tfds"
    config.data.name = "wmt14_translate/de-en"
    config.data.vocab_size = 32_768
    config.data.buckets = (24, 48, 96, 192)
    config.model.dropout = 0.3
    config.model.dtype = "bfloat16"
    config.space.encoder_experts = config.space.decoder_experts = tuple(range(1, int(experts) + 1))
    config.search.max_flops = 3.0e9
    for train in (config.supernet, config.retrain):
        _schedule(train)
    return config


def _schedule(train: ConfigDict) -> None:
    train.steps = 40_000
    train.tokens_per_batch = 524_288
    train.accumulate = 16
    train.learning_rate = 1e-3
    train.warmup_steps = 10_000
    train.checkpoint_every = 1_000
