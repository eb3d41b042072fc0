"""Pre-norm: masked equals extracted in values and gradients, decoding equals teacher forcing, the
formula, and the costs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.costs import costs
from automoe_jax.extract import extract
from automoe_jax.model import Network, Spec, forward
from automoe_jax.model.network import abstract
from automoe_jax.model.transformer import embed
from automoe_jax.ops.norm import layer_norm
from tests.model.test_supernet import ARCHS, BATCH, COTANGENT, REAL, VOCAB, numbers
from tests.oracles import SPACE, quick_jit, random_network, step_by_step

NETWORK = random_network(SPACE, VOCAB, norm="pre")


@quick_jit
def value_and_gradient(network: Network, arch, source, target) -> tuple:
    def loss(network: Network):
        logits = forward(network, arch, source, target)
        return jnp.sum(jnp.where(REAL[..., None], logits * COTANGENT, 0)), logits

    (_, logits), gradient = jax.value_and_grad(loss, has_aux=True)(network)
    return logits, gradient


@pytest.mark.parametrize("name", list(ARCHS)[:3])
def test_masked_equals_extracted(name: str) -> None:
    arch = ARCHS[name]
    logits, gradient = value_and_gradient(NETWORK, arch, *BATCH)
    cut = extract(NETWORK, arch)
    cut_logits, cut_gradient = value_and_gradient(cut, arch, *BATCH)
    np.testing.assert_allclose(logits[REAL], cut_logits[REAL], atol=2e-5)
    expected = extract(Network(gradient.params, NETWORK.spec), arch)
    for ours, theirs in zip(
        jax.tree.leaves(cut_gradient.params), jax.tree.leaves(expected.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("name", ARCHS)
def test_shapes_and_costs(name: str) -> None:
    arch = ARCHS[name]
    cut = extract(NETWORK, arch)
    fresh = abstract(Spec(SPACE, VOCAB, arch=arch, norm="pre"))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, cut)
    assert numbers(cut) == costs(arch, pre_norm=True).params
    pre, post = (costs(arch, 10, 20, pre_norm=norm) for norm in (True, False))
    norms = 2 * (10 * int(arch.encoder_embed_dim) + 20 * int(arch.decoder_embed_dim))
    assert pre.flops - post.flops == pytest.approx(norms)
    assert (pre.flops_min - post.flops_min, pre.flops_max - post.flops_max) == (norms, norms)


def test_steps_equal_teacher_forcing() -> None:
    network = extract(NETWORK, ARCHS["experts everywhere"])
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(4, VOCAB, (3, 1, 5)))
    cached = quick_jit(step_by_step)(network, BATCH[0], tokens)
    forced = quick_jit(forward)(network, network.spec.arch, BATCH[0], tokens[:, 0])
    np.testing.assert_allclose(cached[:, 0], forced, atol=2e-5)


def test_residual_stream_is_normalised_only_before_branches_and_at_the_end() -> None:
    """A decoder whose branches add nothing: the logits of the normalised embeddings."""
    network = random_network(SPACE, VOCAB, norm="pre", arch=ARCHS["one expert everywhere"])

    def silenced(path: Any, leaf: jax.Array) -> jax.Array:
        last = {"out", "w_out", "b_out"} & {getattr(key, "key", "") for key in path}
        return jnp.zeros_like(leaf) if last else leaf

    decoder = jax.tree_util.tree_map_with_path(silenced, network.params["decoder"])
    network = Network(network.params | {"decoder": decoder}, network.spec)
    logits = forward(network, network.spec.arch, *BATCH)
    y, norm = embed(network, "decoder", network.spec.widths, BATCH[1]), decoder["final_norm"]
    expected = layer_norm(y, norm["scale"], norm["bias"]) @ network.params["embedding"]["table"].T
    np.testing.assert_allclose(logits[REAL], expected[REAL], atol=2e-4)
