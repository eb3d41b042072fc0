"""SearchSpace: closed under sampling, mutation and crossover, counted exactly, and strict about its
choices.
"""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from automoe_jax.arch import Arch, make
from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.space import SearchSpace

seeds = st.integers(0, 2**32 - 1)
subsets = {
    "encoder_embed_dims": (16, 24, 32),
    "decoder_embed_dims": (16, 24, 32),
    "encoder_layers": (1, 2, 4),
    "decoder_layers": (1, 2, 4),
    "encoder_self_heads": (0, 1, 2, 4),
    "decoder_self_heads": (0, 1, 2, 4),
    "decoder_cross_heads": (0, 1, 2, 4),
    "cross_layers": (1, 2, 3),
    "encoder_experts": (0, 1, 2, 5),
    "decoder_experts": (0, 1, 3, 4),
    "expert_ffn_dims": (0, 16, 32),
    "top_k": (1, 2, 4),
}


@st.composite
def spaces(draw):
    chosen = {
        name: draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        for name, values in subsets.items()
    }
    assume(all(set(choices) != {0} for choices in chosen.values()))
    return SearchSpace(qkv_dim=16, **chosen)


@given(spaces(), seeds, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_sample_mutate_and_crossover_stay_inside_and_canonical(space, seed, prob):
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng), space.sample(rng)
    for arch in (
        a,
        b,
        space.mutate(a, rng, prob),
        space.crossover(a, b, rng),
        space.largest(),
        space.smallest(),
        *space.fair(rng, 3),
    ):
        assert space.contains(arch)
        assert Arch.from_json(arch.to_json()) == arch


@given(spaces(), seeds)
@settings(max_examples=25, deadline=None)
def test_mutation_without_chance_and_crossover_with_itself_change_nothing(space, seed):
    rng = np.random.default_rng(seed)
    arch = space.sample(rng)
    assert space.mutate(arch, rng, 0.0) == arch
    assert space.crossover(arch, arch, rng) == arch


@given(spaces(), seeds)
@settings(max_examples=25, deadline=None)
def test_same_generator_same_architectures(space, seed):
    def draw():
        rng = np.random.default_rng(seed)
        a, b = space.sample(rng), space.sample(rng)
        return a, b, space.mutate(a, rng, 0.3), space.crossover(a, b, rng)

    assert draw() == draw()


@given(spaces(), seeds)
@settings(max_examples=25, deadline=None)
def test_every_gene_of_a_child_is_one_parents(space, seed):
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng), space.sample(rng)
    child = space.crossover(a, b, rng)
    for name in ("encoder_embed_dim", "decoder_embed_dim", "encoder_layers", "decoder_layers"):
        assert getattr(child, name) in (getattr(a, name), getattr(b, name))
    for name in ("encoder_self_heads", "decoder_self_heads", "decoder_cross_heads"):
        for i, heads in enumerate(getattr(child, name)):
            assert heads == -1 or heads in (getattr(a, name)[i], getattr(b, name)[i])
    for name in ("encoder_ffn_dims", "decoder_ffn_dims"):
        present = getattr(child, name) != -1
        same = (getattr(child, name) == getattr(a, name)) | (
            getattr(child, name) == getattr(b, name)
        )
        assert same[present].all()


@given(spaces(), seeds)
@settings(max_examples=40, deadline=None)
def test_smallest_is_cheapest_and_largest_dearest(space, seed):
    least, some, most = (
        costs(arch)
        for arch in (space.smallest(), space.sample(np.random.default_rng(seed)), space.largest())
    )
    for field in ("flops", "params", "active_params"):
        assert getattr(least, field) <= getattr(some, field)
    assert some.params <= most.params
    assert some.flops_max <= most.flops_max


def every_architecture(space):
    """All architectures of a tiny space, enumerated gene by gene; the canonical ones remain in a
    set.
    """
    widths = [width for width in space.expert_ffn_dims if width]

    def ffns(experts):
        for count, k in itertools.product(experts, space.top_k):
            choices = [space.expert_ffn_dims, *[widths] * (count - 1)]
            for dims in itertools.product(*choices[:count]):
                yield {"expert_ffn_dims": dims, "top_k": k}

    encoder = [
        {"self_heads": heads} | ffn
        for heads in space.encoder_self_heads
        for ffn in ffns(space.encoder_experts)
    ]
    decoder = [
        {"self_heads": own, "cross_heads": cross, "cross_layers": seen} | ffn
        for own in space.decoder_self_heads
        for cross in space.decoder_cross_heads
        for seen in space.cross_layers
        for ffn in ffns(space.decoder_experts)
    ]
    stacks = itertools.product(
        space.encoder_embed_dims,
        space.decoder_embed_dims,
        space.encoder_layers,
        space.decoder_layers,
    )
    for d_encoder, d_decoder, depth, layers in stacks:
        for first, second in itertools.product(
            itertools.product(encoder, repeat=depth), itertools.product(decoder, repeat=layers)
        ):
            arch = make(
                qkv_dim=space.qkv_dim,
                encoder_embed_dim=d_encoder,
                decoder_embed_dim=d_decoder,
                encoder=first,
                decoder=second,
            )
            if not arch.is_blind:
                yield arch


TINY = SearchSpace(
    qkv_dim=8,
    encoder_embed_dims=(8,),
    decoder_embed_dims=(8,),
    encoder_layers=(1,),
    decoder_layers=(1,),
    encoder_self_heads=(2,),
    decoder_self_heads=(2,),
    decoder_cross_heads=(2,),
    cross_layers=(1,),
    encoder_experts=(1,),
    decoder_experts=(1,),
    expert_ffn_dims=(8,),
    top_k=(1,),
)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"encoder_embed_dims": (8, 12), "decoder_embed_dims": (8, 12, 16)},
        {"encoder_layers": (1, 2), "decoder_layers": (1, 3), "cross_layers": (1, 2, 3)},
        {"encoder_layers": (1, 3), "cross_layers": (2, 3)},
        {"encoder_experts": (1, 2, 3), "expert_ffn_dims": (0, 8, 16), "top_k": (1, 2)},
        {
            "encoder_experts": (2,),
            "decoder_experts": (1, 2),
            "expert_ffn_dims": (0, 8),
            "top_k": (2, 3),
        },
        {
            "encoder_self_heads": (1, 2),
            "decoder_self_heads": (2, 4),
            "decoder_cross_heads": (1, 4),
            "decoder_layers": (1, 2),
        },
        {"encoder_self_heads": (0, 1, 2), "encoder_experts": (0, 1, 2), "encoder_layers": (1, 2)},
        {
            "encoder_layers": (2,),
            "decoder_layers": (1, 2),
            "decoder_self_heads": (0, 2),
            "decoder_cross_heads": (0, 1, 2),
            "cross_layers": (1, 2),
            "decoder_experts": (0, 1),
        },
        {"decoder_cross_heads": (0, 2), "decoder_layers": (0,)},
    ],
)
def test_size_equals_brute_force(choices):
    space = dataclasses.replace(TINY, **choices)
    found = set(every_architecture(space))
    assert space.size() == len(found)
    assert all(space.contains(arch) for arch in found)
    rng = np.random.default_rng(0)
    assert {space.sample(rng) for _ in range(200)} <= found


def test_sampling_reaches_every_architecture_of_a_tiny_space():
    space = dataclasses.replace(
        TINY,
        encoder_experts=(0, 1, 2),
        expert_ffn_dims=(0, 8),
        top_k=(1, 2),
        decoder_layers=(1, 2),
        decoder_cross_heads=(0, 2),
    )
    rng = np.random.default_rng(0)
    assert {space.sample(rng) for _ in range(4000)} == set(every_architecture(space))


def test_genes_are_uniform():
    space, rng = SearchSpace(), np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(600)]
    experts = np.bincount([len(arch.encoder_experts[5]) for arch in drawn], minlength=7)[1:]
    depths = np.bincount([arch.decoder_layers for arch in drawn], minlength=7)[1:]
    assert min(experts.min(), depths.min()) > 60  # 100 expected, standard deviation 9
    assert max(experts.max(), depths.max()) < 140


def test_published_space_and_its_corners():
    space = SearchSpace()
    encoder = 4 * sum(3**n for n in range(1, 7)) // 2  # heads × expert widths
    decoder = 2 * 2 * 3 * sum(3**n for n in range(1, 7))
    assert space.size() == 4 * encoder**6 * sum(decoder**depth for depth in range(1, 7))
    assert (space.super_encoder_embed_dim, space.super_decoder_embed_dim, space.super_ffn_dim) == (
        640,
        640,
        3072,
    )
    assert (space.max_encoder_layers, space.max_decoder_layers) == (6, 6)
    assert (space.max_encoder_experts, space.max_decoder_experts) == (6, 6)
    assert space.is_routed
    assert not dataclasses.replace(space, encoder_experts=(1,), decoder_experts=(1,)).is_routed
    dense = space.largest_dense()
    assert space.contains(dense)
    assert not dense.routed
    assert dense.encoder_experts == dense.decoder_experts == ((3072,),) * 6
    assert dense.cross_layers[:6].tolist() == [1] * 6


def test_largest_dense_has_one_expert_even_outside_the_space():
    space = dataclasses.replace(TINY, encoder_experts=(2,), top_k=(2,))
    assert space.largest_dense().encoder_experts == ((8,),)
    assert not space.contains(space.largest_dense())


def test_identity_expert_only_stands_first():
    space = dataclasses.replace(TINY, encoder_experts=(3,), expert_ffn_dims=(0, 8))
    rng = np.random.default_rng(0)
    drawn = {space.sample(rng).encoder_experts[0] for _ in range(50)}
    assert drawn == {(0, 8, 8), (8, 8, 8)}
    assert space.smallest().encoder_experts == ((0, 8, 8),)


@pytest.mark.parametrize(
    "changes",
    [
        {"qkv_dim": 16},
        {"encoder_embed_dims": (12,)},
        {"decoder_layers": (2,)},
        {"encoder_layers": (2,)},
        {"decoder_cross_heads": (4,)},
        {"decoder_experts": (2,)},
        {"expert_ffn_dims": (16,)},
        {"cross_layers": (2,), "encoder_layers": (2,)},
    ],
)
def test_contains_refuses_others(changes):
    other = dataclasses.replace(TINY, **changes).smallest()
    assert not TINY.contains(other)
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="not of this search space"):
        TINY.mutate(other, rng, 0.3)
    with pytest.raises(UserError, match="not of this search space"):
        TINY.crossover(TINY.smallest(), other, rng)


def test_clipped_genes_come_back_as_choices():
    space = dataclasses.replace(
        TINY, encoder_experts=(1, 4), top_k=(3,), encoder_layers=(1, 2), cross_layers=(2,)
    )
    small = space.smallest()  # one expert, so K = 1; one encoder layer, so one is seen
    rng = np.random.default_rng(0)
    children = {space.crossover(small, space.largest(), rng) for _ in range(50)}
    assert {int(k) for child in children for k in child.encoder_top_k} == {-1, 1, 3}
    assert all(child.cross_layers[0] == child.encoder_layers for child in children)


def test_choices_are_sets():
    space = SearchSpace(encoder_layers=[3, 1, 3], top_k=[2, 1])
    assert (space.encoder_layers, space.top_k) == ((1, 3), (1, 2))
    assert space == SearchSpace(encoder_layers=(1, 3), top_k=(1, 2))
    assert hash(space) == hash(SearchSpace(encoder_layers=(1, 3), top_k=(1, 2)))
    assert SearchSpace(**dataclasses.asdict(space)) == space


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qkv_dim": 0}, "space.qkv_dim=0 must be a positive"),
        ({"qkv_dim": 8.0}, "space.qkv_dim=8.0 must be a positive"),
        (
            {"decoder_layers": ()},
            r"space.decoder_layers=\(\) must be a list of choices that is not empty",
        ),
        ({"decoder_layers": 3}, r"space.decoder_layers=3 must be a list"),
        (
            {"decoder_layers": (0, 1)},
            (
                r"space.decoder_layers=\(0, 1\) .*: 0 means that there is no decoder, so it must be"
                r" the only choice"
            ),
        ),
        ({"top_k": (1.5,)}, r"space.top_k=\(1.5,\) must hold whole numbers"),
        ({"expert_ffn_dims": (-8, 8)}, "space.expert_ffn_dims=.* of at least 0"),
        ({"encoder_experts": (0,)}, r"space.encoder_experts=\(0,\) must hold a positive number"),
        ({"decoder_cross_heads": (0,)}, r"space.decoder_cross_heads=\(0,\) must hold a positive"),
        ({"expert_ffn_dims": (0,)}, r"space.expert_ffn_dims=\(0,\) must hold a positive width"),
        (
            {"encoder_self_heads": (3,)},
            r"space.encoder_self_heads=\(3,\): 3 heads must divide space.qkv_dim=24",
        ),
        (
            {"decoder_cross_heads": (4, 6)},
            r"space.decoder_cross_heads=\(4, 6\): 4 heads must divide the largest choice, 6",
        ),
        ({"encoder_layers": (6, 13)}, r"space.encoder_layers=\(6, 13\) must not exceed 12"),
        ({"decoder_experts": (33,)}, r"space.decoder_experts=\(33,\) must not exceed 32"),
    ],
)
def test_message_names_field_value_and_rule(changes, message):
    qkv_dim = 24 if "decoder_cross_heads" in changes else 8
    with pytest.raises(UserError, match=message.replace("24", str(qkv_dim))):
        dataclasses.replace(TINY, **{"qkv_dim": qkv_dim, **changes})


@pytest.mark.parametrize("name", ["qkv_dim", "encoder_embed_dims", "expert_ffn_dims", "top_k"])
def test_numbers_fit_an_architecture(name: str) -> None:
    huge = 2**40 if name == "qkv_dim" else (2**40,)
    with pytest.raises(UserError, match=rf"space\.{name}=.* must not exceed 2147483647"):
        SearchSpace(**{name: huge})
