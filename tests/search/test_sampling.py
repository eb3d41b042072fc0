"""Even draws within the limits, against an enumeration of small spaces."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats

from automoe_jax import arch as arch_lib
from automoe_jax.arch import Arch
from automoe_jax.config import TOP_K, RouterConfig, SearchConfig
from automoe_jax.errors import UserError
from automoe_jax.search import limits, sampling
from automoe_jax.search.limits import Conditions, Cost, cost_function, within_limits
from automoe_jax.search.sampling import even_draws, largest_within
from automoe_jax.space import SearchSpace

SPACE = SearchSpace(
    qkv_dim=8,
    encoder_embed_dims=(8, 16),
    decoder_embed_dims=(8,),
    encoder_layers=(1, 2),
    decoder_layers=(1, 2),
    encoder_self_heads=(1,),
    decoder_self_heads=(1,),
    decoder_cross_heads=(2,),
    cross_layers=(1, 2),
    encoder_experts=(1, 2),
    decoder_experts=(1,),
    expert_ffn_dims=(16, 64),
)
# experts per token, heads, the identity expert, unequal layers, up to three experts
RICH = dataclasses.replace(
    SPACE,
    encoder_embed_dims=(8,),
    encoder_self_heads=(1, 2),
    encoder_layers=(2,),
    decoder_layers=(1,),
    cross_layers=(1,),
    encoder_experts=(1, 3),
    expert_ffn_dims=(0, 8, 32),
    top_k=(1, 2),
    expert_layers_every=2,
)
SKIPPING = dataclasses.replace(
    SPACE,
    encoder_embed_dims=(8,),
    encoder_self_heads=(0, 1),
    encoder_layers=(1,),
    decoder_self_heads=(0, 1),
    decoder_cross_heads=(0, 2),
    cross_layers=(1,),
    encoder_experts=(0, 2),
    decoder_experts=(0, 1),
    expert_ffn_dims=(0, 32),
)
ENCODER = dataclasses.replace(
    SPACE, decoder_layers=(0,), decoder_embed_dims=(8,), encoder_experts=(1, 2, 3)
)
CASES = {
    "FLOPs": (SPACE, "flops", TOP_K, 0.1),
    "parameters": (SPACE, "params", TOP_K, 0.12),
    "active parameters": (SPACE, "active_params", TOP_K, 0.1),
    "rich, FLOPs": (RICH, "flops", TOP_K, 0.15),
    "rich, parameters": (RICH, "params", TOP_K, 0.15),
    "random routes": (RICH, "flops", RouterConfig(kind="random"), 0.15),
    "by importance": (RICH, "flops", RouterConfig(kind="importance"), 0.15),
    "skipping, FLOPs": (SKIPPING, "flops", TOP_K, 0.15),
    "skipping, parameters": (SKIPPING, "params", TOP_K, 0.15),
    "no decoder": (ENCODER, "flops", TOP_K, 0.15),
}


def layers(space: SearchSpace, side: str, layer: int) -> list[tuple[dict[str, object], float]]:
    """All genotypes of a layer with their probabilities."""
    found = []
    counts = space.expert_counts(side, layer)
    genes = {"self_heads": getattr(space, f"{side}_self_heads"), "top_k": space.top_k}
    if side == "decoder":
        genes |= {"cross_heads": space.decoder_cross_heads, "cross_layers": space.cross_layers}
    positive = [width for width in space.expert_ffn_dims if width]
    for count in counts:
        widths = [space.expert_ffn_dims, *[positive] * (count - 1)][:count]
        choices = [*genes.values(), *widths]
        probability = 1 / np.prod([len(counts), *map(len, choices)])
        for values in itertools.product(*choices):
            layer_genes = dict(zip(genes, values[: len(genes)], strict=True))
            found.append(({**layer_genes, "expert_ffn_dims": values[len(genes) :]}, probability))
    return found


def enumerated(space: SearchSpace) -> dict[Arch, float]:
    """Every architecture with its probability in `space.sample`."""
    found: dict[Arch, float] = collections.defaultdict(float)
    globally = (
        space.encoder_embed_dims,
        space.decoder_embed_dims,
        space.encoder_layers,
        space.decoder_layers,
    )
    for d_encoder, d_decoder, depth, decoder_depth in itertools.product(*globally):
        stack = [layers(space, "encoder", i) for i in range(depth)]
        stack += [layers(space, "decoder", i) for i in range(decoder_depth)]
        for combination in itertools.product(*stack):
            arch = arch_lib.make(
                qkv_dim=space.qkv_dim,
                encoder_embed_dim=d_encoder,
                decoder_embed_dim=d_decoder,
                encoder=[genes for genes, _ in combination[:depth]],
                decoder=[genes for genes, _ in combination[depth:]],
            )
            probability = np.prod([probability for _, probability in combination])
            if not arch.is_blind:
                found[arch] += probability / np.prod([len(choices) for choices in globally])
    seeing = sum(found.values())
    return {arch: probability / seeing for arch, probability in found.items()}


def costs_of(router: RouterConfig = TOP_K) -> limits.CostFunction:
    return cost_function(Conditions(SearchConfig(), router))


def limited(space: SearchSpace, name: str, router: RouterConfig, share: float) -> SearchConfig:
    """The limit that about this share of even draws meets."""
    probabilities, cost = enumerated(space), costs_of(router)
    ordered = sorted((cost(arch)[name], probability) for arch, probability in probabilities.items())
    totals = np.cumsum([probability for _, probability in ordered])
    return SearchConfig(**{f"max_{name}": ordered[int(np.searchsorted(totals, share))][0]})


@pytest.mark.parametrize(
    "space", [SPACE, RICH, SKIPPING, ENCODER], ids=["space", "rich", "skipping", "encoder"]
)
def test_the_enumeration_is_right(space: SearchSpace) -> None:
    probabilities = enumerated(space)
    assert sum(probabilities.values()) == pytest.approx(1)
    assert len(probabilities) == space.size()
    assert all(map(space.contains, probabilities))


@pytest.mark.parametrize("case", CASES)
def test_draws_are_even_within_the_limit(case: str) -> None:
    space, name, router, share = CASES[case]
    settings, cost = limited(space, name, router, share), costs_of(router)
    probabilities = {
        arch: probability
        for arch, probability in enumerated(space).items()
        if within_limits(cost(arch), settings)
    }
    draw, rng, draws = even_draws(space, settings, cost), np.random.default_rng(5), 1500
    drawn = collections.Counter(draw(rng) for _ in range(draws))
    assert drawn.keys() <= probabilities.keys()
    expected = np.array(list(probabilities.values()))
    expected *= draws / expected.sum()
    counts = np.array([drawn[arch] for arch in probabilities])
    # Chi-squared needs about five expected draws in each cell: rare architectures share cells.
    order = np.argsort(expected)
    cells = np.cumsum(expected[order]) // 10
    merged = [np.bincount(cells.astype(int), values[order]) for values in (counts, expected)]
    observed, wanted = (values[merged[1] > 0] for values in merged)
    assert len(wanted) >= 10
    assert stats.chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_little_is_proposed_beyond_the_limit(case: str) -> None:
    """Although plain rejection would reject most."""
    space, name, router, share = CASES[case]
    settings, cost = limited(space, name, router, share), costs_of(router)
    propose, rng = sampling._proposal(space, settings, cost), np.random.default_rng(0)
    admitted = [within_limits(cost(propose(rng)), settings) for _ in range(200)]
    assert np.mean(admitted) > 0.85
    plain = [within_limits(cost(space.sample(rng)), settings) for _ in range(200)]
    assert np.mean(plain) < 0.35


def test_the_published_space_under_a_tight_limit() -> None:
    """Of up to 8 experts a layer: plain rejection would reject 17 of 18 draws."""
    counts = tuple(range(1, 9))
    space = SearchSpace(encoder_experts=counts, decoder_experts=counts)
    settings, cost = SearchConfig(max_flops=1.5e9), costs_of()
    draw, rng = even_draws(space, settings, cost), np.random.default_rng(0)
    drawn = [draw(rng) for _ in range(50)]
    assert all(space.contains(arch) for arch in drawn)
    assert all(cost(arch)["flops"] <= settings.max_flops for arch in drawn)
    assert len(set(drawn)) == 50
    assert {int(arch.decoder_layers) for arch in drawn} >= {1, 2}
    assert {len(widths) for arch in drawn for widths in arch.encoder_experts} == set(counts)


def test_without_limits_the_draws_are_those_of_the_space() -> None:
    draw = even_draws(SPACE, SearchConfig(), costs_of())
    assert draw(np.random.default_rng(3)) == SPACE.sample(np.random.default_rng(3))


def test_a_limit_that_only_the_smallest_meets() -> None:
    smallest, cost = SPACE.smallest(), costs_of()
    settings = SearchConfig(max_params=cost(smallest)["params"])
    assert even_draws(SPACE, settings, cost)(np.random.default_rng(0)) == smallest
    below = SearchConfig(max_params=cost(smallest)["params"] - 1)
    with pytest.raises(UserError, match=r"search\.max_params=.* is below the smallest"):
        even_draws(SPACE, below, cost)


def test_several_limits_hold_together() -> None:
    cost = costs_of()
    middle = cost(SPACE.sample(np.random.default_rng(3)))
    settings = SearchConfig(max_flops=middle["flops"], max_params=0.9 * middle["params"])
    draw, rng = even_draws(SPACE, settings, cost), np.random.default_rng(0)
    for _ in range(100):
        assert within_limits(cost(draw(rng)), settings)


def test_a_cost_that_is_no_sum_is_met_by_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    def narrowest(conditions: Conditions):
        return lambda arch: float(max(map(max, arch.encoder_experts)))

    monkeypatch.setitem(limits.COSTS, "widest", Cost("units", narrowest))
    cost, rng = costs_of(), np.random.default_rng(0)
    draw = even_draws(SPACE, SearchConfig(limits="widest=20"), cost)
    assert {max(map(max, draw(rng).encoder_experts)) for _ in range(20)} == {16}
    monkeypatch.setattr(sampling, "ATTEMPTS", 20)
    monkeypatch.setitem(
        limits.COSTS, "widest", Cost("units", lambda _: lambda a: float(a != SPACE.smallest()))
    )
    draw = even_draws(SPACE, SearchConfig(limits="widest=0.5"), costs_of())
    with pytest.raises(UserError, match=r"20 draws .* are all beyond search\.limits=widest=0\.5"):
        [draw(rng) for _ in range(20)]


def test_the_largest_within_the_limits() -> None:
    cost = costs_of()
    whole = SearchConfig(max_flops=cost(SPACE.largest())["flops"])
    assert largest_within(SPACE, whole, cost, SPACE.sample) == SPACE.largest()
    settings = limited(SPACE, "flops", TOP_K, 0.1)
    draw = even_draws(SPACE, settings, cost)
    found = largest_within(SPACE, settings, cost, draw)
    assert found == largest_within(SPACE, settings, cost, draw)
    most = max(
        flops for arch in enumerated(SPACE) if (flops := cost(arch)["flops"]) <= settings.max_flops
    )
    assert 0.99 * most <= cost(found)["flops"] <= most
