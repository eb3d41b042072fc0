"""The annotations of ops are checked in tests."""

import jax.numpy as jnp
import jaxtyping
import pytest

from automoe_jax.ops.norm import layer_norm
from automoe_jax.ops.routers.top_k import route_top_k


def test_a_wrong_shape_raises() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="scale"):
        layer_norm(jnp.ones((2, 3)), jnp.ones(4), jnp.ones(3))


def test_a_wrong_type_raises() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="active"):
        route_top_k(jnp.ones((2, 3)), jnp.ones(3), 1, 1)


def test_implicit_rank_promotion_raises() -> None:
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)
