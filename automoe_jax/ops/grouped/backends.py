"""Backends by name, and the choice of one.

A backend is chosen when a function is traced, by JAX's default platform.
`jax.lax.platform_dependent` would choose in the lowering, but then every shape is traced once for
each backend, which takes half a second, and all backends must have the same residuals. To lower for
another platform, or to place a program on another than the default one, name the backend: `with
use_backend("megablox"): jax.export.export(…)`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from automoe_jax.ops.grouped import blocks, padded, strips
from automoe_jax.ops.grouped.table import Experts

BACKENDS = ("blocks", "padded", "megablox", "megablox-interpreted", "triton", "triton-interpreted")
BY_PLATFORM = {"cpu": "blocks", "tpu": "megablox", "gpu": "triton"}
PORTABLE = "padded"

use_backend = jax.make_user_context(default_value=None)  # part of the key of jit's cache


class Backend(NamedTuple):
    """The experts on sorted rows and their gradient; signatures as in `blocks` and `strips`."""

    # the result, and the hidden units in the form that `backward` expects
    forward: Callable[..., tuple[jax.Array, Any]]
    backward: Callable[..., tuple[jax.Array, Experts]]
    widest_first: bool = False  # how the experts' rows must be sorted


def choose(name: str | None) -> str:
    """The given name, else that of `use_backend`, else the platform's."""
    return name or use_backend.value or BY_PLATFORM.get(jax.default_backend(), PORTABLE)


@functools.cache
def named(name: str) -> Backend:
    """The backend of this name; ValueError if there is none. The interpreted ones run on any
    platform, slowly, for tests.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend={name!r} is none of {', '.join(BACKENDS)}")
    if name == "blocks":
        return Backend(blocks.forward, blocks.backward)
    if name == "padded":
        return _by_strips(padded.PRODUCTS)
    interpret = name.endswith("-interpreted")
    if name.startswith("megablox"):  # Pallas is slow to import, and a CPU does not need it
        from automoe_jax.ops.grouped import megablox

        return _by_strips(megablox.products(interpret), widest_first=True)
    from automoe_jax.ops.grouped import triton

    return _by_strips(triton.products(interpret))


def _by_strips(products: strips.Products, widest_first: bool = False) -> Backend:
    return Backend(
        functools.partial(strips.forward, products),
        functools.partial(strips.backward, products),
        widest_first,
    )
