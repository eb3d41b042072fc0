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
from automoe_jax.registry import Registry

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


def by_strips(products: strips.Products, widest_first: bool = False) -> Backend:
    """A backend from three grouped products; strips, gradient and dropout are shared.

    `widest_first`: the products need the rows of the widest expert first.
    """
    return Backend(
        functools.partial(strips.forward, products),
        functools.partial(strips.backward, products),
        widest_first,
    )


@functools.cache
def _megablox(interpret: bool) -> Backend:
    from automoe_jax.ops.grouped import megablox  # Pallas is slow to import; a CPU needs none of it

    return by_strips(megablox.products(interpret), widest_first=True)


@functools.cache
def _triton(interpret: bool) -> Backend:
    from automoe_jax.ops.grouped import triton

    return by_strips(triton.products(interpret))


_BLOCKS, _PADDED = Backend(blocks.forward, blocks.backward), by_strips(padded.PRODUCTS)

# Functions without arguments, so that a backend is imported when it is first used. The interpreted
# ones run on any platform, slowly, for tests.
BACKENDS: Registry[Callable[[], Backend]] = Registry(
    "backend",
    {
        "blocks": lambda: _BLOCKS,
        "padded": lambda: _PADDED,
        "megablox": functools.partial(_megablox, False),
        "megablox-interpreted": functools.partial(_megablox, True),
        "triton": functools.partial(_triton, False),
        "triton-interpreted": functools.partial(_triton, True),
    },
)


def named(name: str) -> Backend:
    """The backend of this name; raises `UserError` if there is none."""
    return BACKENDS.find(name)()
