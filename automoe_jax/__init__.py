"""From parallel text and a budget to a small, fast mixture-of-experts translator.

The public names are loaded on first use, so importing the package starts neither JAX nor Flax.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "Arch": "automoe_jax.arch",
    "SearchSpace": "automoe_jax.space",
    "UserError": "automoe_jax.errors",
    "default_config": "automoe_jax.config",
    "Network": "automoe_jax.model",
    "Spec": "automoe_jax.model",
    "forward": "automoe_jax.model",
    "init": "automoe_jax.model",
    "from_fairseq": "automoe_jax.convert",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
