"""Rematerialisation: the same numbers in less memory. And float32 parts of bfloat16 training."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.config import REMATS, TrainConfig, default_config, from_config_dict
from automoe_jax.data.tokenizer import EOS
from automoe_jax.errors import UserError
from automoe_jax.model import ForwardOptions
from automoe_jax.model.network import Network, Spec, abstract
from automoe_jax.model.transformer import apply
from automoe_jax.train.step import gradients_of, init_state, make_train_step
from tests.oracles import SPACE, quick_jit, random_network

VOCAB = 30
SMALL = dataclasses.replace(
    SPACE,
    decoder_embed_dims=(16,),
    encoder_layers=(2,),
    decoder_layers=(1,),
    top_k=(1,),
    expert_ffn_dims=(8, 16),
)
ARCH = dataclasses.replace(SMALL, encoder_experts=(2,), decoder_experts=(2,)).largest()
NETWORK = random_network(SMALL, VOCAB, arch=ARCH)
TRAIN = TrainConfig(balance_loss=0.01)
TOKENS = np.random.default_rng(0).integers(4, VOCAB, (2, 1, 4, 7)).astype(np.int32)
TOKENS[..., -1] = EOS
BATCH = {"source": jnp.asarray(TOKENS[0]), "target": jnp.asarray(TOKENS[1])}
ARCHS = jax.tree.map(lambda field: jnp.asarray(field)[None], ARCH)


@functools.cache
def gradients(remat: str) -> Any:
    """Of one batch, with dropout."""

    def run(network):
        return gradients_of(
            network, BATCH, ARCHS, jax.random.key(0), TRAIN, ForwardOptions(0.3, 0.1, remat=remat)
        )

    return quick_jit(run)(NETWORK)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_same_loss_and_gradients(remat: str) -> None:
    (found, metrics), (expected, plain) = gradients(remat), gradients("none")
    np.testing.assert_allclose(metrics.loss, plain.loss, rtol=1e-6)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6, rtol=1e-4), found, expected
    )
    assert any(np.any(leaf) for leaf in jax.tree.leaves(found))


def residuals(remat: str) -> int:
    """Bytes that the forward pass stores for the backward pass, for a deeper, dense network;
    nothing is run.

    Compilation for a CPU would hide it: its compiler drops the barriers and merges repeated
    computation.
    """
    space = dataclasses.replace(SMALL, encoder_layers=(6,), expert_ffn_dims=(64,))
    spec, tokens = Spec(space, VOCAB, arch=space.largest_dense()), jnp.zeros((64, 32), jnp.int32)

    def kept(params: Any) -> Any:
        def run(params: Any) -> Any:
            return apply(
                Network(params, spec),
                spec.exact_arch,
                tokens,
                tokens,
                forward_options=ForwardOptions(0.3, 0.1, remat=remat),
                rng=jax.random.key(0),
            )

        return jax.vjp(run, params)[1]

    return sum(
        leaf.size * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(jax.eval_shape(kept, abstract(spec).params))
    )


def test_less_is_kept() -> None:
    none, dots, full = (residuals(remat) for remat in REMATS)
    assert full < 0.5 * dots < 0.4 * none, (full, dots, none)


def test_an_unknown_policy_is_refused() -> None:
    settings = default_config()
    settings.remat = "some"
    with pytest.raises(UserError, match=r"config\.remat='some' must be one of none, dots, full"):
        from_config_dict(settings)


def test_bfloat16_keeps_weights_moments_routers_and_loss_in_float32() -> None:
    step = make_train_step(NETWORK.spec, TRAIN, ForwardOptions(0.3, 0.1, "bfloat16", remat="full"))
    state = init_state(jax.tree.map(jnp.copy, NETWORK), TRAIN)
    after, metrics = jax.eval_shape(step, state, BATCH, ARCHS, jax.random.key(0))
    floats = [
        leaf.dtype
        for leaf in jax.tree.leaves((after, metrics))
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    # weights, both moments, and the metrics
    assert len(floats) > 3 * len(jax.tree.leaves(NETWORK.params))
    assert set(floats) == {jnp.dtype(jnp.float32)}
    kernel = NETWORK.params["encoder"]["layer_0"]["experts"]["router_kernel"].shape
    products = [
        equation.invars
        for equation in _equations(step.trace(state, BATCH, ARCHS, jax.random.key(0)).jaxpr.jaxpr)
    ]
    routers = [
        [value.aval.dtype for value in values]
        for values in products
        if any(value.aval.shape == kernel for value in values)
    ]
    assert len(routers) >= 3  # of the layers
    assert {dtype for dtypes in routers for dtype in dtypes} == {jnp.dtype(jnp.float32)}
    assert any(value.aval.dtype == jnp.bfloat16 for values in products for value in values), (
        "the other products are in bfloat16"
    )


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every matrix product in a program, inner programs included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda value: hasattr(value, "eqns") or hasattr(value, "jaxpr")
        ):
            if hasattr(inner, "jaxpr") or hasattr(inner, "eqns"):
                yield from _equations(getattr(inner, "jaxpr", inner))
