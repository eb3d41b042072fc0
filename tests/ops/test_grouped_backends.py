"""Every backend of the experts against the plain loop, in values and gradients; lowering for TPU
and CUDA.
"""

import contextlib
import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from automoe_jax.ops.grouped import (
    ExpertDropout,
    ExpertRows,
    Experts,
    backends,
    experts_ffn,
    use_backend,
    width_choices,
)
from tests.oracles import experts_loop, quick_jit, routing

E, F, D, N, K = 4, 48, 64, 64, 2  # 128 pairs make blocks of 16 rows
STARTS = np.arange(E, dtype=np.int32) * F
NOT_MADE = E
FFN_DIMS = width_choices((0, 16, 32, F))
RUNNABLE = ["blocks", "padded", "megablox-interpreted", "triton-interpreted"]


def drawn(among, seed=0):
    return np.random.default_rng(seed).choice(among, (N, K))


def all_to(expert):
    return np.stack([np.full(N, expert), np.full(N, NOT_MADE)], 1)


CASES = {
    "widths differ, narrow ones first": ((16, 48, 32, 48), drawn([0, 1, 2, 3])),
    "first is the identity": ((0, 16, 48, 32), drawn([0, 1, 2, 3])),
    "two are absent": ((16, 48, -1, -1), drawn([0, 1])),
    "one gets no token": ((16, 48, 32, 16), drawn([0, 2, 3])),
    "the widest gets no token": ((16, 32, 32, 48), drawn([0, 1, 2, NOT_MADE])),
    "one gets all, second choices not made": ((16, 48, 32, 16), all_to(2)),
    "no choice made": ((16, 48, 32, 16), drawn([NOT_MADE])),
    "only the identity": ((0, -1, -1, -1), all_to(0)),
}


def numbers(shape, seed, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


WEIGHTS = Experts(
    *(numbers(shape, i, 0.3) for i, shape in enumerate([(E * F, D), (E * F,), (E * F, D), (E, D)]))
)
X, COTANGENT, GATES = (
    numbers((N, D), 5),
    numbers((N, D), 6),
    np.random.default_rng(7).uniform(0.1, 0.9, (N, K)).astype(np.float32),
)
NO_DROPOUT, KEY = np.zeros(E, np.float32), np.array([3, 4], np.uint32)


@functools.partial(quick_jit, static_argnames="backend")
def values_and_gradients(x, gates, experts, chosen, widths, cotangent, rates, key, backend):
    """Rates of 0 drop nothing, so one compilation serves runs with and without dropout."""

    def apply(x, gates, experts):
        rng = jax.random.wrap_key_data(key)
        return experts_ffn(
            x,
            routing(chosen, gates),
            experts,
            ExpertRows(STARTS, widths),
            FFN_DIMS,
            ExpertDropout(rates, 0.0, rng),
            backend=backend,
        )

    y, pullback = jax.vjp(apply, x, gates, experts)
    return y, pullback(cotangent.astype(y.dtype))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_equals_loop(backend, name):
    widths, chosen = (np.asarray(array, np.int32) for array in CASES[name])
    y, gradients = values_and_gradients(
        X, GATES, WEIGHTS, chosen, widths, COTANGENT, NO_DROPOUT, KEY, backend
    )
    expected, expected_gradients = experts_loop(
        X, GATES, WEIGHTS, chosen, STARTS, widths, COTANGENT
    )
    np.testing.assert_allclose(y, expected, atol=5e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=2e-4), gradients, expected_gradients
    )


@pytest.mark.parametrize("backend", RUNNABLE)
def test_bfloat16_stays_near_float32(backend):
    widths, chosen = (np.asarray(array, np.int32) for array in CASES["first is the identity"])
    x, experts = jax.tree.map(lambda array: jnp.asarray(array, jnp.bfloat16), (X, WEIGHTS))
    y, gradients = values_and_gradients(
        x, GATES, experts, chosen, widths, COTANGENT, NO_DROPOUT, KEY, backend
    )
    assert {array.dtype for array in jax.tree.leaves((y, gradients[0], gradients[2]))} == {
        jnp.dtype(jnp.bfloat16)
    }
    expected = experts_loop(
        *jax.tree.map(lambda array: np.asarray(array, np.float32), (x, GATES, experts)),
        chosen,
        STARTS,
        widths,
        COTANGENT,
    )
    for ours, theirs in zip(
        jax.tree.leaves((y, gradients)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(
            np.asarray(ours, np.float32), theirs, atol=0.03 * np.abs(theirs).max()
        )


@pytest.mark.parametrize("backend", RUNNABLE)
def test_dropout(backend):
    """The gradient with respect to w_out shows the mask: all units are 1 and dy[n, d] = [n = d]."""
    widths = np.array([16, 48, 32, 48], np.int32)
    rates = np.array([0.0, 0.5, 0.25, 0.75], np.float32)
    chosen = np.argsort(np.random.default_rng(1).random((N, E)), axis=1)[:, :K].astype(np.int32)
    ones = Experts(np.zeros((E * F, D), np.float32), np.ones(E * F, np.float32), *WEIGHTS[2:])
    gates, identity = np.ones((N, K), np.float32), np.eye(N, D, dtype=np.float32)
    _, (_, _, shown) = values_and_gradients(
        X, gates, ones, chosen, widths, identity, rates, KEY, backend
    )
    mask = np.asarray(shown.w_out).T  # [N, U], zero where no choice of n owns the unit
    for e in range(E):
        kept = mask[np.any(chosen == e, axis=1), STARTS[e] : STARTS[e] + widths[e]]
        np.testing.assert_allclose(kept[kept != 0], 1 / (1 - rates[e]), rtol=1e-5)
        assert (
            abs(np.mean(kept == 0) - rates[e])
            < 5 * (rates[e] * (1 - rates[e]) / kept.size) ** 0.5 + 1e-9
        )
        # every row has its own mask
        assert rates[e] == 0 or len(np.unique(kept, axis=0)) == len(kept)
    y, gradients = values_and_gradients(
        X, GATES, WEIGHTS, chosen, widths, COTANGENT, rates, KEY, backend
    )
    keep = np.repeat(mask[:, None], K, axis=1)
    expected, expected_gradients = experts_loop(
        X, GATES, WEIGHTS, chosen, STARTS, widths, COTANGENT, keep
    )
    np.testing.assert_allclose(y, expected, atol=1e-4)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=5e-4), gradients, expected_gradients
    )


def lowered(platform, backend, dtype, tokens, widths, width):
    """The StableHLO of values and gradients by all weights, x and gates."""
    ffn_dims, shape = width_choices(widths), jax.ShapeDtypeStruct
    units = E * ffn_dims[-1]
    table = Experts(
        *(shape(axes, dtype) for axes in [(units, width), (units,), (units, width), (E, width)])
    )

    def loss(x, gates, experts, chosen, own_widths, key):
        expert_rows, rates = ExpertRows(np.arange(E) * ffn_dims[-1], own_widths), jnp.full(E, 0.1)
        y = experts_ffn(
            x,
            routing(chosen, gates),
            experts,
            expert_rows,
            ffn_dims,
            ExpertDropout(rates, 0.0, jax.random.wrap_key_data(key)),
        )
        return y.astype(jnp.float32).sum()

    inputs = (shape((tokens, width), dtype), shape((tokens, K), jnp.float32), table)
    inputs += (shape((tokens, K), jnp.int32), shape((E,), jnp.int32), shape((2,), jnp.uint32))
    with use_backend(backend), known_device(platform):
        return (
            jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
            .trace(*inputs)
            .lower(lowering_platforms=(platform,))
            .as_text()
        )


def known_device(platform):
    """Since jax 0.12, whose devices state their platform, a kernel must know which GPU."""
    if platform != "cuda" or "platform" not in inspect.signature(AbstractDevice).parameters:
        return contextlib.nullcontext()
    device = AbstractDevice("NVIDIA H100 80GB HBM3", 132, platform="gpu")
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=device))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("platform", "backend", "kernel"),
    [("tpu", "megablox", "tpu_custom_call"), ("cuda", "triton", r"\S*triton\S*")],
)
def test_lowers_to_kernels(platform, backend, kernel, dtype):
    """On a machine with neither, at realistic sizes."""
    program = lowered(platform, backend, dtype, tokens=1024, widths=(0, 1024, 3072), width=256)
    assert re.search(rf"custom_call @{kernel}\(", program)


def test_triton_leaves_shapes_without_tiles_to_the_padded_products():
    program = lowered("cuda", "triton", jnp.float32, tokens=7, widths=(8, 20), width=24)
    assert "triton" not in program


def test_backend_is_the_platforms_unless_named():
    assert backends.choose(None) == backends.BY_PLATFORM[jax.default_backend()]
    with use_backend("padded"):
        assert backends.choose(None) == "padded"
        assert backends.choose("triton") == "triton"


def test_misspelt_backend_is_told():
    with pytest.raises(
        ValueError,
        match=r"backend='megabox' must be one of blocks, padded.*did you mean 'megablox'",
    ):
        backends.named("megabox")
