"""Shared by several tests: a small search space, random networks, and experts as a plain loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.extract import extract
from automoe_jax.model.network import Network, Spec, abstract
from automoe_jax.model.transformer import decode_step, encode, start_decoding
from automoe_jax.ops.grouped import Experts
from automoe_jax.ops.routers import Routing
from automoe_jax.routers import TOP_K, RouterConfig
from automoe_jax.space import SearchSpace

# Elastic in everything but the encoder's width: every pair of widths is one more branch to compile.
SPACE = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16,),
    decoder_embed_dims=(8, 16),
    encoder_layers=(1, 2),
    decoder_layers=(1, 2),
    encoder_self_heads=(1, 2),
    decoder_self_heads=(1, 2),
    decoder_cross_heads=(1, 2),
    cross_layers=(1, 2),
    encoder_experts=(1, 2, 3),
    decoder_experts=(1, 2, 3),
    expert_ffn_dims=(0, 8, 16),
    top_k=(1, 2),
)


def quick_jit(function: Any, **options: Any) -> Any:
    """`jax.jit` with LLVM's optimisations off, which halves the time to compile; programs run once
    or twice.
    """
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)


def random_network(
    space: SearchSpace,
    vocab_size: int,
    seed: int = 0,
    arch: Arch | None = None,
    router: RouterConfig = TOP_K,
    classes: int = 0,
    **options: Any,
) -> Network:
    """A network with all parameters random, biases and scales included, so that a missing one is
    noticed.
    """
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(mean, 0.3, leaf.shape), leaf.dtype)

    spec = Spec(space, vocab_size, arch=arch, router=router, classes=classes, **options)
    return jax.tree_util.tree_map_with_path(draw, abstract(spec))


def routing(chosen: Any, gates: Any) -> Routing:
    """The choices [N, K] of tokens; their probabilities are of no interest."""
    chosen = jnp.asarray(chosen)
    return Routing(chosen, gates, jnp.zeros((len(chosen), 0)))


def step_by_step(network: Network, source: jax.Array, tokens: jax.Array) -> jax.Array:
    """Logits [B,k,T,V] of k hypotheses a sentence, tokens [B,k,T], through the cache."""
    memory = encode(network, network.spec.widths, network.spec.arch, source).memory
    constants, caches = start_decoding(network, memory, tokens.shape[1], tokens.shape[2])
    slots = jnp.broadcast_to(jnp.arange(tokens.shape[1])[:, None], tokens.shape)

    def step(caches: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        logits, caches = decode_step(
            network, constants, caches, inputs[0], slots, inputs[1], memory.sentences
        )
        return caches, logits

    _, logits = jax.lax.scan(
        step, caches, (jnp.moveaxis(tokens, 2, 0), jnp.arange(tokens.shape[2]))
    )
    return jnp.moveaxis(logits, 0, 2)


def inside(network: Network, arch: Arch) -> list[np.ndarray]:
    """For each leaf of a SuperNet, a mask of the entries that the sub-Transformer `arch` has."""
    numbered = jax.tree.map(lambda leaf: np.arange(leaf.size).reshape(leaf.shape), network)
    kept = dict(jax.tree_util.tree_leaves_with_path(extract(numbered, arch)))
    return [
        np.isin(leaf, kept.get(path, []))
        for path, leaf in jax.tree_util.tree_leaves_with_path(numbered)
    ]


def experts_loop(
    x: Any,
    gates: Any,
    experts: Experts,
    chosen: np.ndarray,
    starts: Any,
    widths: Any,
    cotangent: Any,
    hidden_keep: Any = None,
    output_keep: Any = None,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, Experts]]:
    """`experts_ffn` choice by choice and expert by expert in float64: y and, for dy = `cotangent`,
    (dx, d gates, d experts).

    hidden_keep [N, K, U] and output_keep [N, K, D] are the factors of dropout.
    """
    x, gates, cotangent = (np.asarray(array, np.float64) for array in (x, gates, cotangent))
    w_in, b_in, w_out, b_out = (np.asarray(array, np.float64) for array in experts)
    hidden_keep = (
        np.ones((*chosen.shape, len(w_in)))
        if hidden_keep is None
        else np.asarray(hidden_keep, np.float64)
    )
    output_keep = (
        np.ones((*chosen.shape, x.shape[1]))
        if output_keep is None
        else np.asarray(output_keep, np.float64)
    )
    y, dx, d_gates = np.zeros_like(x), np.zeros_like(x), np.zeros_like(gates)
    d = Experts(*(np.zeros(weight.shape) for weight in experts))
    for k in range(chosen.shape[1]):
        for e, (start, width) in enumerate(zip(starts, widths, strict=True)):
            n = np.flatnonzero(chosen[:, k] == e)
            gate, dy = gates[n, k, None], cotangent[n]
            if width == 0:
                y[n] += gate * x[n]
                d_gates[n, k] += (dy * x[n]).sum(1)
                dx[n] += gate * dy
            if width <= 0:
                continue
            rows = slice(start, start + width)
            keep, keep_out = hidden_keep[n, k, rows], output_keep[n, k]
            before = x[n] @ w_in[rows].T + b_in[rows]
            hidden = np.maximum(before, 0) * keep
            out = (hidden @ w_out[rows] + b_out[e]) * keep_out
            y[n] += gate * out
            d_gates[n, k] += (dy * out).sum(1)
            d_out = gate * dy * keep_out
            d_before = d_out @ w_out[rows].T * keep * (before > 0)
            dx[n] += d_before @ w_in[rows]
            d.b_out[e] += d_out.sum(0)
            d.w_out[rows] += hidden.T @ d_out
            d.w_in[rows] += d_before.T @ x[n]
            d.b_in[rows] += d_before.sum(0)
    return y, (dx, d_gates, d)
