"""LayerNorms by embedding width against networks with the norms of one width; equal norms are
shared ones, in values and gradients.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from automoe_jax.arch import SIDES
from automoe_jax.config import Config
from automoe_jax.extract import extract
from automoe_jax.model import Network, Spec
from automoe_jax.model.network import initialised, spec_of
from automoe_jax.model.width_norms import is_norm
from tests.model.test_mixture import apart
from tests.model.test_pre_norm import value_and_gradient
from tests.model.test_supernet import BATCH, REAL, VOCAB
from tests.oracles import SPACE

# Little but the widths differs, since every pair of them is compiled.
TWO_WIDTHS = dataclasses.replace(
    SPACE,
    encoder_embed_dims=(8, 16),
    encoder_layers=(1,),
    decoder_layers=(1,),
    cross_layers=(1,),
    encoder_experts=(1,),
    decoder_experts=(1,),
    expert_ffn_dims=(8, 16),
    top_k=(1,),
)
WIDTHS = {"encoder": TWO_WIDTHS.encoder_embed_dims, "decoder": TWO_WIDTHS.decoder_embed_dims}
WIDER_AND_NARROWER = [
    TWO_WIDTHS.largest()._replace(
        encoder_embed_dim=np.int32(encoder), decoder_embed_dim=np.int32(decoder)
    )
    for encoder, decoder in ((8, 8), (8, 16), (16, 8))
]


def specs(norm: str, sets: int = 1) -> tuple[Spec, Spec]:
    """With norms by width, and with shared ones."""
    own, shared = (
        Spec(TWO_WIDTHS, VOCAB, norm=norm, weight_sets=sets, width_norms=each)
        for each in (True, False)
    )
    return own, shared


def with_norms_of(params: dict, numbers: dict[str, int]) -> dict:
    """Parameters whose norms [..., N, D] are those [..., D] of one choice of each side's width."""

    def picked(side: str, part: dict[str, Any]) -> dict[str, Any]:
        return jax.tree.map(lambda array: array[..., numbers[side], :], part)

    def one_side(side: str, parts: dict[str, Any]) -> dict[str, Any]:
        return {
            name: picked(side, part)
            if is_norm(name)
            else one_side(side, part)
            if name.startswith("layer_")
            else part
            for name, part in parts.items()
        }

    return params | {side: one_side(side, params[side]) for side in SIDES}


def test_an_architecture_has_the_norms_of_its_widths() -> None:
    own, shared = specs("pre", sets=2)  # with final norms and a mixture
    network = Network(apart(initialised(own, jax.random.key(0)).params), own)
    for arch in WIDER_AND_NARROWER:
        numbers = {
            side: WIDTHS[side].index(int(getattr(arch, f"{side}_embed_dim"))) for side in SIDES
        }
        by_hand = Network(with_norms_of(network.params, numbers), shared)
        logits, gradient = value_and_gradient(network, arch, *BATCH)
        expected, reference = value_and_gradient(by_hand, arch, *BATCH)
        np.testing.assert_allclose(logits[REAL], expected[REAL], atol=2e-5)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-3),
            with_norms_of(gradient.params, numbers),
            reference.params,
        )
        others = {side: (numbers[side] + 1) % len(WIDTHS[side]) for side in SIDES}
        unused = with_norms_of(gradient.params, others)
        for side in SIDES:
            norms = [unused[side]["final_norm"], unused[side]["layer_0"]["experts_norm"]]
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(norms)), (
                "the norms of the other width have no gradient"
            )


def test_is_extracted_with_the_norms_of_its_widths() -> None:
    own, _ = specs("pre")  # which has final norms too
    network = Network(apart(initialised(own, jax.random.key(0)).params), own)
    for arch in WIDER_AND_NARROWER:
        logits, gradient = value_and_gradient(network, arch, *BATCH)
        cut = extract(network, arch)
        assert cut.spec == Spec(TWO_WIDTHS, VOCAB, arch=arch, norm="pre")
        cut_logits, cut_gradient = value_and_gradient(cut, arch, *BATCH)
        np.testing.assert_allclose(logits[REAL], cut_logits[REAL], atol=2e-5)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=2e-3),
            extract(Network(gradient.params, own), arch).params,
            cut_gradient.params,
        )


def test_starts_like_shared_norms() -> None:
    own, shared = (initialised(spec, jax.random.key(0)) for spec in specs("post"))
    for number in range(2):
        alike = with_norms_of(own.params, {"encoder": number, "decoder": 1 - number})
        jax.tree.map(np.testing.assert_array_equal, alike, shared.params)


def test_is_a_setting_of_the_supernet() -> None:
    supernet = dataclasses.replace(Config().supernet, width_norms=True)
    config = dataclasses.replace(Config(), space=TWO_WIDTHS, supernet=supernet)
    assert spec_of(config, VOCAB).width_norms
    assert not spec_of(config, VOCAB, arch=TWO_WIDTHS.smallest()).width_norms
