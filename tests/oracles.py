"""What several tests share: a small search space, networks of random numbers, and the experts as a plain loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.extract import extract
from automoe_jax.model.network import Network, Spec, abstract
from automoe_jax.ops.grouped import Experts
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
    """`jax.jit` with LLVM's optimisations off, which halves the time to compile; the numbers are run once or twice."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)


def random_network(space: SearchSpace, vocab_size: int, seed: int = 0, arch: Arch | None = None) -> Network:
    """Every parameter random, biases and scales included, so that none can be left out unnoticed."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(mean, 0.3, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, abstract(Spec(space, vocab_size, arch=arch)))


def inside(network: Network, arch: Arch) -> list[np.ndarray]:
    """For each leaf of a SuperNet, which of its numbers the sub-Transformer `arch` has."""
    numbered = jax.tree.map(lambda leaf: np.arange(leaf.size).reshape(leaf.shape), network)
    kept = dict(jax.tree_util.tree_leaves_with_path(extract(numbered, arch)))
    return [np.isin(leaf, kept.get(path, [])) for path, leaf in jax.tree_util.tree_leaves_with_path(numbered)]


def experts_loop(
    x: jax.Array,
    gates: jax.Array,
    experts: Experts,
    chosen: np.ndarray,
    starts: np.ndarray,
    widths: np.ndarray,
    hidden_keep: jax.Array | None = None,
    output_keep: jax.Array | None = None,
) -> jax.Array:
    """`experts_ffn` without any blocks: choice by choice, expert by expert, on all tokens.

    hidden_keep [N, K, U] and output_keep [N, K, D] are what dropout multiplies with.
    """
    y = jnp.zeros_like(x)
    for k in range(chosen.shape[1]):
        for e, (start, width) in enumerate(zip(starts, widths, strict=True)):
            if width < 0:
                continue
            out = x
            if width > 0:
                rows = slice(int(start), int(start + width))
                hidden = jax.nn.relu(x @ experts.w_in[rows].T + experts.b_in[rows])
                hidden = hidden if hidden_keep is None else hidden * hidden_keep[:, k, rows]
                out = hidden @ experts.w_out[rows] + experts.b_out[e]
                out = out if output_keep is None else out * output_keep[:, k]
            y += jnp.where(chosen[:, k] == e, gates[:, k], 0.0)[:, None] * out
    return y
