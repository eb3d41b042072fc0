"""The Transformer: one model for the SuperNet and for every sub-Transformer cut out of it."""

from automoe_jax.model.network import Network, Spec, init
from automoe_jax.model.transformer import ForwardOptions, forward

__all__ = ["Network", "ForwardOptions", "Spec", "forward", "init"]
