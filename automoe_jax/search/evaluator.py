"""Candidates scored by the validation loss they inherit from the SuperNet: one compiled program, data on the device."""

from collections.abc import Callable

import jax

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.data.batching import TokenPairs, evaluation_batches
from automoe_jax.model.network import Network, param_shardings
from automoe_jax.model.transformer import Regime
from automoe_jax.sharding import placement
from automoe_jax.train.loop import validator


def inherited_loss(supernet: Network, config: Config, validation: TokenPairs) -> Callable[[Arch], float]:
    """loss(arch): mean −log p per token, in nats, of the sub-network over search.validation_tokens of the text."""
    tokens = config.supernet.tokens_per_batch // config.supernet.accumulate
    placed = placement(config)
    batches = evaluation_batches(validation, config.data.buckets, tokens, config.search.validation_tokens, placed.sentence_parts)
    nll = validator(supernet, Regime(dtype=config.model.dtype), batches, placed)
    params = jax.device_put(supernet.params, param_shardings(supernet.spec, placed))
    return lambda arch: nll(params, arch)
