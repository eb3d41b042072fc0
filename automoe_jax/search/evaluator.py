"""Candidates scored by the validation loss they inherit from the SuperNet: one compiled program, data on the device."""

from collections.abc import Callable

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.data.batching import TokenPairs, evaluation_batches
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import Regime
from automoe_jax.train.loop import validator


def inherited_loss(supernet: Network, config: Config, validation: TokenPairs) -> Callable[[Arch], float]:
    """loss(arch): mean −log p per token, in nats, of the sub-network over search.validation_tokens of the text."""
    tokens = config.supernet.tokens_per_batch // config.supernet.accumulate
    batches = evaluation_batches(validation, config.data.buckets, tokens, config.search.validation_tokens)
    nll = validator(supernet, Regime(dtype=config.model.dtype), batches)
    return lambda arch: nll(supernet.params, arch)
