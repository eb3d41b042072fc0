"""Routers without JAX: settings, and the properties that configuration and costs need.

A router is one `RouterDeclaration` in the table `ROUTERS`, under the name that
`config.router.kind` has. It states which settings the router uses and their ranges, and how its
experts are counted, and it loads the two parts that compute: `RouterFunctions` on arrays
(`automoe_jax.ops.routers`) and, for export, a `Router` of ONNX operators
(`automoe_jax.export.routing`). Nothing else depends on the kind. The configuration file of an
experiment can add a router by registering its declaration (docs/EXTENDING.md).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from automoe_jax.arch import DECODER, SIDES, Arch
from automoe_jax.costs import RouterCosts
from automoe_jax.errors import UserError
from automoe_jax.registry import Registry, attribute
from automoe_jax.space import SearchSpace

IMPORTANCES = ("received", "given", "relative_received", "relative_given")
GATES = ("probability", "one")
DRAWS = ("batch", "token", "fixed")
INFERENCES = ("token", "sentence", "mean")

# field, its value, whether the value is valid, the rule in words
Rule = tuple[str, Any, bool, str]


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """Options of a router that has none."""


@dataclasses.dataclass(frozen=True)
class RouterConfig:
    """Assignment of tokens to the experts of a layer.

    A setting that the router of this kind does not use must have its default value.
    """

    # topk (AutoMoE, arXiv 2210.07535), importance (DA-MoE, arXiv 2409.06669), random (THOR,
    # arXiv 2110.04260), or a kind that the configuration file registers
    kind: str = "topk"
    # importance: the attention that determines a token's number of experts in the encoder,
    # received or given, or relative_received or relative_given, divided by the largest of the
    # sentence; in the decoder always the attention given, whose largest is the first token's 1
    importance: str = "received"
    renormalise: bool = True  # importance: gates are divided by their sum
    # random, in training: batch (one expert for a whole pass), token (a new draw for each token) or
    # fixed (one expert for each word of the vocabulary)
    draw: str = "batch"
    # random, in inference, unless `draw` is fixed: token, sentence or mean
    inference: str = "token"
    seed: int = 0  # random: of the draws in inference and of the fixed ones
    # topk, in training: places of each expert relative to an even share of the tokens (Switch,
    # arXiv 2101.03961); tokens without a place skip the layer's experts; 0: no limit
    capacity_factor: float = 0.0
    # topk, in training: the router's input is multiplied by random factors within 1 ± jitter
    jitter: float = 0.0
    # topk: factor of an expert's output: its probability p, or one, whose gradient is that of
    # p / stop_gradient(p)
    gate: str = "probability"
    options: Any = NoOptions()  # of a router from outside: an instance of its own dataclass

    def __post_init__(self) -> None:
        declaration = ROUTERS.get(self.kind)
        if isinstance(self.options, NoOptions) and declaration is not None:
            object.__setattr__(self, "options", declaration.options)

    @property
    def declaration(self) -> "RouterDeclaration":
        """The declaration of this kind; raises `UserError` if there is none."""
        return ROUTERS.find(self.kind)

    def costs(self, arch: Arch) -> RouterCosts:
        """Contribution of this router to the costs of `arch`."""
        layers = (*arch.encoder_experts, *arch.decoder_experts)
        mean_of = self.declaration.experts_per_token
        means = [mean_of(self, len(widths)) if widths else 0.0 for widths in layers]
        known = tuple(mean for mean in means if mean is not None)
        return RouterCosts(self.declaration.gated, known if len(known) == len(means) else None)


@dataclasses.dataclass(frozen=True)
class Range:
    """Valid values of a setting."""

    contains: Callable[[Any], bool]
    rule: str  # in words, as in "must be positive"


def one_of(names: tuple[Any, ...]) -> Range:
    """The listed values."""
    return Range(lambda value: value in names, f"must be one of {', '.join(map(str, names))}")


def no_importance(router: RouterConfig, decoder: bool) -> str | None:
    """No importance: the router does not need it."""
    return None


def by_gene(router: RouterConfig, experts: int) -> float | None:
    """The gene K is the number of experts per token."""
    return None


def no_variants(router: RouterConfig) -> Mapping[str, RouterConfig]:
    """A single mode of inference."""
    return {}


def no_rules(router: RouterConfig, space: SearchSpace, expert_devices: int) -> Iterator[Rule]:
    """No rules beyond the ranges of the settings."""
    yield from ()


@dataclasses.dataclass(frozen=True)
class RouterDeclaration:
    """Facts about a kind of router that need no arrays."""

    # the fields of RouterConfig that it uses, each with its range
    settings: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    # its own settings, `config.router.options`: a frozen dataclass with their defaults
    options: Any = NoOptions()
    # whether every layer of a network with experts has a linear gate [D, E] with bias
    gated: bool = True
    # (router, whether the layer is a decoder's) → the attention that measures a token's importance,
    # one of IMPORTANCES, or None where the router does not use it
    importance: Callable[[RouterConfig, bool], str | None] = no_importance
    # (router, E) → mean experts per token of a layer with E experts; None: the gene K
    experts_per_token: Callable[[RouterConfig, int], float | None] = by_gene
    # whether the number of experts differs from token to token
    counts_vary: bool = False
    # whether a token's experts in inference follow from the text, so that counting them on a text
    # gives the expected load
    measurable: bool = True
    # the other modes of inference of the same weights, by the name of each
    variants: Callable[[RouterConfig], Mapping[str, RouterConfig]] = no_variants
    # (router, space, devices along the mesh axis `expert`) → rules that involve several settings
    rules: Callable[[RouterConfig, SearchSpace, int], Iterator[Rule]] = no_rules
    # loads its `ops.routers.RouterFunctions`
    functions: Callable[[], Any] | None = None
    # loads its `export.routing.Router`; without it, the router runs with JAX only
    graph: Callable[[], Any] | None = None


def rules(router: RouterConfig, space: SearchSpace, expert_devices: int) -> Iterator[Rule]:
    """The rules of a router's settings, that on its kind first."""
    kind = router.kind
    yield "config.router.kind", kind, kind in ROUTERS, ROUTERS.rule(kind)
    declaration = router.declaration
    for name, default in _defaults().items():
        field, value = f"config.router.{name}", getattr(router, name)
        if name in declaration.settings:
            allowed = declaration.settings[name]
            yield field, value, allowed.contains(value), allowed.rule
        else:
            kinds = " or ".join(map(repr, _users(name)))
            rule = f"is for config.router.kind={kinds}; leave it {default!r}"
            yield field, value, value == default, rule
    yield from _attention_rules(router, space)
    yield from declaration.rules(router, space, expert_devices)


def _attention_rules(router: RouterConfig, space: SearchSpace) -> Iterator[Rule]:
    """A router that uses the weights of the self-attention needs it in every layer."""
    for side in SIDES:
        if router.declaration.importance(router, side == DECODER) is None:
            continue
        field, heads = f"config.space.{side}_self_heads", getattr(space, f"{side}_self_heads")
        rule = (
            f"must not hold 0: config.router.kind={router.kind!r} uses the self-attention of every"
            " layer; leave the 0 out"
        )
        yield field, heads, 0 not in heads, rule


def check_attention(router: RouterConfig, arch: Arch) -> None:
    """Raises `UserError` for a layer of `arch` that routes without the self-attention that the
    router uses.
    """
    for side in SIDES:
        if router.declaration.importance(router, side == DECODER) is None:
            continue
        heads = getattr(arch, f"{side}_self_heads")
        for i, widths in enumerate(getattr(arch, f"{side}_experts")):
            if len(widths) > 1 and not heads[i]:
                raise UserError(
                    f"{side}.layers[{i}].self_heads=0 skips the self-attention that"
                    f" config.router.kind={router.kind!r} uses; choose another router, or an"
                    " architecture with it"
                )


def _users(setting: str) -> list[str]:
    """The kinds of router that use a setting."""
    return [kind for kind, router in ROUTERS.items() if setting in router.settings]


def _defaults() -> dict[str, Any]:
    """The default of every setting whose use depends on the kind."""
    fields = {field.name: field.default for field in dataclasses.fields(RouterConfig)}
    return {name: value for name, value in fields.items() if name not in ("kind", "options")}


def _capacity_rules(
    router: RouterConfig, space: SearchSpace, expert_devices: int
) -> Iterator[Rule]:
    """Capacity needs experts of one width, and whole experts on every device."""
    if not router.capacity_factor:
        return
    field, value = "config.router.capacity_factor", router.capacity_factor
    counts = (space.encoder_experts, space.decoder_experts, space.expert_ffn_dims)
    equal = all(len(choices) == 1 for choices in counts) and space.super_ffn_dim > 0
    rule = (
        "needs equal experts: one choice each of space.encoder_experts, decoder_experts and"
        " expert_ffn_dims"
    )
    yield field, value, equal, rule
    experts = (*space.encoder_experts, *space.decoder_experts)
    whole = all(count % expert_devices == 0 for count in experts)
    rule = (
        "needs whole experts on every device: config.mesh.expert must divide"
        " space.encoder_experts and decoder_experts"
    )
    yield field, value, whole, rule


def _attention_measured(router: RouterConfig, decoder: bool) -> str:
    """The setting in the encoder; in the decoder what a token receives comes from the future."""
    return "given" if decoder else router.importance


def _evenly_many(router: RouterConfig, experts: int) -> float:
    """The mean if all numbers of experts from 1 to E were equally frequent."""
    return (experts + 1) / 2


def _has_variants(router: RouterConfig) -> bool:
    """Whether the draw leaves a choice in inference; a word's fixed expert does not."""
    return router.draw != "fixed"


def _all_for_the_mean(router: RouterConfig, experts: int) -> float | None:
    """Every expert where the mean over them is taken, otherwise K."""
    return float(experts) if _has_variants(router) and router.inference == "mean" else None


def _other_inferences(router: RouterConfig) -> Mapping[str, RouterConfig]:
    """The modes of inference that are not configured."""
    if not _has_variants(router):
        return {}
    others = [mode for mode in INFERENCES if mode != router.inference]
    return {mode: dataclasses.replace(router, inference=mode) for mode in others}


# AutoMoE section 3, and Switch with its capacity and jitter.
_TOP_K = RouterDeclaration(
    settings={
        "capacity_factor": Range(lambda value: value >= 0, "must not be negative"),
        "jitter": Range(lambda value: 0 <= value < 1, "must be in [0, 1)"),
        "gate": one_of(GATES),
    },
    rules=_capacity_rules,
    functions=attribute("automoe_jax.ops.routers.top_k", "FUNCTIONS"),
    graph=attribute("automoe_jax.export.routers.top_k", "GRAPH"),
)
_IMPORTANCE = RouterDeclaration(
    settings={"importance": one_of(IMPORTANCES), "renormalise": one_of((True, False))},
    importance=_attention_measured,
    experts_per_token=_evenly_many,
    counts_vary=True,
    functions=attribute("automoe_jax.ops.routers.importance", "FUNCTIONS"),
    graph=attribute("automoe_jax.export.routers.importance", "GRAPH"),
)
_RANDOM = RouterDeclaration(
    settings={
        "draw": one_of(DRAWS),
        "inference": one_of(INFERENCES),
        "seed": Range(lambda value: 0 <= value < 2**31, "must be in [0, 2³¹)"),
    },
    gated=False,
    experts_per_token=_all_for_the_mean,
    measurable=False,
    variants=_other_inferences,
    functions=attribute("automoe_jax.ops.routers.random", "FUNCTIONS"),
    graph=attribute("automoe_jax.export.routers.random", "GRAPH"),
)

ROUTERS: Registry[RouterDeclaration] = Registry(
    "config.router.kind", {"topk": _TOP_K, "importance": _IMPORTANCE, "random": _RANDOM}
)

TOP_K = RouterConfig()
