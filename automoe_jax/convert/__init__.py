"""Published HAT and AutoMoE checkpoints of fairseq as workdirs; their weights as a `Network`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automoe_jax.convert.weights import from_fairseq

__all__ = ["from_fairseq"]


def __getattr__(name: str) -> Any:
    # The command's help does not wait for JAX.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("automoe_jax.convert.weights"), name)
