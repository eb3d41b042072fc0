"""Even draws of architectures within the limits of a search.

`SearchSpace.sample` draws every gene evenly, regardless of costs. Random search, a first population
and the SuperNet need the same distribution among the architectures that the limits admit, exactly.
Rejection gives it: draw from a proposal that is even on a larger set, and repeat until the draw is
within the limits. With the whole space as the larger set, a tight limit rejects nearly everything.
The proposal is therefore even on a set that is only slightly larger than the admitted one:

1. A cost that is a sum over layers (`limits.Cost.additive`) splits, for given embedding widths,
   into one part for each layer. The part of a layer with several experts includes its router. A
   layer with one expert counts without a router, although it has one where another layer has
   several experts, so that the sum is at most the cost.
2. The budget that remains for the layers is divided into `STEPS` steps, and every layer's part is
   rounded down to whole steps. The architectures whose rounded sum is within the budget are the
   larger set.
3. Dynamic programming over the layers gives the probability that the rest of an architecture fits
   into any remaining budget. So widths and depths, and then one layer after another, are drawn with
   the probabilities that they have in that set.

Axes: O options of a layer · C additive costs · W expert widths of the space · STEPS of the budget.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from automoe_jax import arch as arch_lib
from automoe_jax.arch import ABSENT, Arch
from automoe_jax.errors import UserError
from automoe_jax.search.limits import COSTS, CostFunction, check_limits, limits, within_limits
from automoe_jax.space import SearchSpace

if TYPE_CHECKING:
    from automoe_jax.config import SearchConfig

Draw = Callable[[np.random.Generator], Arch]

STEPS = 1024
ATTEMPTS = 100_000  # proposals in a row beyond the limits
MOST_OPTIONS = 1_000_000  # of a layer; a larger table takes too long
LARGEST_OF = 1000  # draws
TRIED = 200  # draws, by which the kind of draw is chosen
ENOUGH = 0.2  # share within the limits for which rejection alone is fast


def even_draws(space: SearchSpace, settings: "SearchConfig", cost: CostFunction) -> Draw:
    """The function rng → an architecture within the limits, with the probability that
    `space.sample` gives it relative to all others within the limits.

    Raises `UserError` when the smallest architecture exceeds a limit, and the function when
    `ATTEMPTS` proposals in a row do.
    """
    check_limits(space, settings, cost)
    if not limits(settings):
        return space.sample
    plain = share_within(space, settings, cost) >= ENOUGH
    propose = space.sample if plain else _proposal(space, settings, cost)

    def draw(rng: np.random.Generator) -> Arch:
        for _ in range(ATTEMPTS):
            arch = propose(rng)
            if within_limits(cost(arch), settings) and not arch.is_blind:
                return arch
        raise UserError(
            f"{ATTEMPTS} draws from the space are all beyond {_in_words(settings)}; raise the"
            " limits, or give the space smaller choices"
        )

    return draw


def share_within(
    space: SearchSpace, settings: "SearchConfig", cost: CostFunction, draws: int = TRIED
) -> float:
    """The share of even draws from the space that are within the limits, estimated by `draws` of
    them, which are always the same.
    """
    rng = np.random.default_rng(0)
    drawn = (space.sample(rng) for _ in range(draws))
    return sum(within_limits(cost(arch), settings) for arch in drawn) / draws


def largest_within(
    space: SearchSpace, settings: "SearchConfig", cost: CostFunction, draw: Draw
) -> Arch:
    """The largest architecture of `space` if the limits admit it; otherwise the one with the most
    FLOPs, then parameters, of `LARGEST_OF` draws with `draw`, which are always the same.
    """
    if within_limits(cost(space.largest()), settings):
        return space.largest()
    rng = np.random.default_rng(0)
    drawn = [(arch, cost(arch)) for arch in (draw(rng) for _ in range(LARGEST_OF))]
    return max(drawn, key=lambda one: (one[1]["flops"], one[1]["params"]))[0]


def _in_words(settings: "SearchConfig") -> str:
    """As in "search.max_flops=3e9"."""
    named = ((COSTS[name].limit, name, limit) for name, limit in limits(settings).items())
    return ", ".join(
        f"search.limits={name}={limit:g}" if setting == "limits" else f"search.{setting}={limit:g}"
        for setting, name, limit in named
    )


def _proposal(space: SearchSpace, settings: "SearchConfig", cost: CostFunction) -> Draw:
    """Draws that are even on a set that includes everything within the limits."""
    additive = {name: limit for name, limit in limits(settings).items() if COSTS[name].additive}
    if not additive or _option_count(space) > MOST_OPTIONS:
        return space.sample
    meter = _Meter(space, cost, tuple(additive))
    proposals = [
        _LimitedDraws(space, meter, column, limit) for column, limit in enumerate(additive.values())
    ]
    # One limit is enough for a proposal: the one that admits least.
    return min(proposals, key=lambda proposal: proposal.share)


class _Shape(NamedTuple):
    """The genes that the parts of all layers depend on."""

    encoder_embed_dim: int
    decoder_embed_dim: int
    encoder_layers: int
    decoder_layers: int


class _Options(NamedTuple):
    """The choices for one layer, regardless of the order of the experts after the first."""

    genes: list[dict[str, int]]  # [O], without the experts
    first: Int[np.ndarray, "O"]  # width of the first expert, ABSENT where the FFN is skipped
    others: Int[np.ndarray, "O W"]  # numbers of other experts with each positive width
    weights: Float[np.ndarray, "O"]  # probability in an even draw
    costs: Float[np.ndarray, "O C"]


class _Rounded(NamedTuple):
    """The options of a layer by their cost, rounded down to whole steps of the budget."""

    options: _Options
    order: Int[np.ndarray, "O"]  # the options by rising cost
    # [STEPS + 2], index of the first option of each cost in `order`
    starts: Int[np.ndarray, "starts"]
    weights: Float[np.ndarray, "steps"]  # [STEPS + 1], probability of each cost


class _Stack(NamedTuple):
    """The layers of one shape."""

    shape: _Shape
    layers: list[_Rounded]  # the encoder's, then the decoder's
    # [layers + 1, STEPS + 1]: the probability that layers i and later fit into each budget
    fits: list[Float[np.ndarray, "steps"]]


class _Meter:
    """Splits the additive costs of an architecture into those of its layers.

    The part of a layer is the difference that it makes to the cost of a small architecture: one
    with another layer of two experts if the layer has several, so that routers are counted.
    """

    def __init__(self, space: SearchSpace, cost: CostFunction, names: Sequence[str]):
        self._space, self._cost, self._names = space, cost, names
        self._plain = {"self_heads": 1, "cross_heads": 1, "cross_layers": 1, "top_k": 1}
        self._width = _positive_widths(space)[0]
        self._known: dict[Any, _Options] = {}

    def base(self, shape: _Shape) -> Float[np.ndarray, "C"]:
        """The costs [C] that belong to no layer."""
        sides = ["encoder", "decoder"] if shape.decoder_layers else ["encoder"]
        parts = [self._part(shape, side, self._layer([self._width])) for side in sides]
        one_each = {side: [self._layer([self._width])] for side in sides}
        return self._costs(shape, one_each) - sum(parts)

    def options(self, shape: _Shape, side: str, layer: int) -> _Options:
        """The options of a layer, with their parts of the costs."""
        seen = min(shape.encoder_layers, self._space.cross_layers[-1]) if side == "decoder" else 0
        counts = self._space.expert_counts(side, layer)
        key = (shape.encoder_embed_dim, shape.decoder_embed_dim, side, seen, counts)
        if key not in self._known:
            self._known[key] = self._measured(shape, side, layer)
        return self._known[key]

    def _measured(self, shape: _Shape, side: str, layer: int) -> _Options:
        structures = _structures(self._space, side, layer, shape.encoder_layers)
        tables = [self._of_structure(shape, side, structure) for structure in structures]
        weights = [table.weights / len(tables) for table in tables]
        return _Options(
            [genes for table in tables for genes in table.genes],
            np.concatenate([table.first for table in tables]),
            np.concatenate([table.others for table in tables]),
            np.concatenate(weights),
            np.concatenate([table.costs for table in tables]),
        )

    def _of_structure(self, shape: _Shape, side: str, structure: dict[str, int]) -> _Options:
        """The options that differ in the widths of the experts alone, whose costs add up."""
        genes = {name: value for name, value in structure.items() if name != "experts"}
        positive = _positive_widths(self._space)
        if not structure["experts"]:
            cost = self._part(shape, side, self._layer([], genes))
            none = np.zeros((1, len(positive)), int)
            return _Options([genes], np.array([ABSENT]), none, np.ones(1), cost[None])
        first, others = self._space.expert_ffn_dims, structure["experts"] - 1
        numbers = np.array(list(_compositions(others, len(positive))))
        orders = np.array([_multinomial(row) for row in numbers.tolist()], float)
        of_first, of_others = self._of_widths(shape, side, genes, others)
        return _Options(
            [genes] * (len(first) * len(numbers)),
            np.repeat(first, len(numbers)),
            np.tile(numbers, (len(first), 1)),
            np.tile(orders / (len(positive) ** others * len(first)), len(first)),
            (of_first[:, None] + numbers @ of_others).reshape(-1, len(self._names)),
        )

    def _of_widths(
        self, shape: _Shape, side: str, genes: dict[str, int], others: int
    ) -> tuple[Float[np.ndarray, "widths C"], Float[np.ndarray, "W C"]]:
        """(The costs of a layer by the width of its first expert, [·, C]; by how much they rise
        with one of the others at each positive width instead of the smallest, [W, C]).
        """
        positive, rest = _positive_widths(self._space), [self._width] * others

        def part(*experts: int) -> Float[np.ndarray, "C"]:
            return self._part(shape, side, self._layer(experts, genes))

        of_first = np.array([part(width, *rest) for width in self._space.expert_ffn_dims])
        of_others = np.zeros((len(positive), len(self._names)))
        if others:
            smallest = part(self._width, *rest)
            of_others += [part(self._width, width, *rest[1:]) - smallest for width in positive]
        return of_first, of_others

    def _part(self, shape: _Shape, side: str, layer: dict[str, Any]) -> Float[np.ndarray, "C"]:
        several = len(layer["expert_ffn_dims"]) > 1
        companion = self._layer([self._width] * (2 if several else 1))
        around: dict[str, list[dict[str, Any]]] = {side: [companion]}
        if side == "decoder":
            around["encoder"] = [self._layer([self._width])] * max(1, layer["cross_layers"])
        elif shape.decoder_layers:
            around["decoder"] = [self._layer([self._width])]
        without = self._costs(shape, around)
        return self._costs(shape, around | {side: [companion, layer]}) - without

    def _layer(
        self, experts: Sequence[int], genes: Mapping[str, int] | None = None
    ) -> dict[str, Any]:
        return {**self._plain, **(genes or {}), "expert_ffn_dims": list(experts)}

    def _costs(
        self, shape: _Shape, layers: Mapping[str, list[dict[str, Any]]]
    ) -> Float[np.ndarray, "C"]:
        costs = self._cost(_made(self._space, shape, layers))
        return np.array([costs[name] for name in self._names], float)


class _LimitedDraws:
    """Even draws from the architectures whose rounded cost is within one limit."""

    def __init__(self, space: SearchSpace, meter: _Meter, column: int, limit: float):
        self._space = space
        shapes = list(_shapes(space))
        self._stacks = [_stack(space, meter, shape, column, limit) for shape in shapes]
        weights = np.array([stack.fits[0][STEPS] for stack in self._stacks])
        # the probability that an even draw from the space is in this set
        self.share = float(weights.mean())
        self._cumulative = np.cumsum(weights)

    def __call__(self, rng: np.random.Generator) -> Arch:
        stack = self._stacks[_drawn(self._cumulative, rng)]
        layers, budget = [], STEPS
        for layer, fits in zip(stack.layers, stack.fits[1:], strict=True):
            cost = _drawn(np.cumsum(layer.weights[: budget + 1] * fits[budget::-1]), rng)
            alike = layer.order[layer.starts[cost] : layer.starts[cost + 1]]
            option = alike[_drawn(np.cumsum(layer.options.weights[alike]), rng)]
            layers.append(_layer_of(self._space, layer.options, option, rng))
            budget -= cost
        depth = stack.shape.encoder_layers
        sides = {"encoder": layers[:depth], "decoder": layers[depth:]}
        return _made(self._space, stack.shape, sides)


def _stack(space: SearchSpace, meter: _Meter, shape: _Shape, column: int, limit: float) -> _Stack:
    """The layers of a shape under a limit on the cost in `column`."""
    step = max(limit - meter.base(shape)[column], 0) / STEPS or math.inf
    places = [("encoder", i) for i in range(shape.encoder_layers)]
    places += [("decoder", i) for i in range(shape.decoder_layers)]
    options = [meter.options(shape, side, i) for side, i in places]
    rounded = {id(one): _rounded(one, column, step) for one in options}
    layers = [rounded[id(one)] for one in options]
    fits = [np.ones(STEPS + 1)]
    for layer in reversed(layers):
        fits.insert(0, np.convolve(layer.weights, fits[0])[: STEPS + 1])
    return _Stack(shape, layers, fits)


def _rounded(options: _Options, column: int, step: float) -> _Rounded:
    # A little less than the cost: rounding of floats must not exclude what is just within.
    costs = np.floor(options.costs[:, column] / step - 1e-9).clip(0, STEPS + 1).astype(int)
    order = np.argsort(costs, kind="stable")
    starts = np.searchsorted(costs[order], np.arange(STEPS + 2))
    weights = np.bincount(costs, options.weights, minlength=STEPS + 2)[: STEPS + 1]
    return _Rounded(options, order, starts, weights)


def _shapes(space: SearchSpace) -> Iterator[_Shape]:
    """All shapes, which an even draw has with equal probability."""
    widths = (space.encoder_embed_dims, space.decoder_embed_dims)
    depths = (space.encoder_layers, space.decoder_layers)
    return itertools.starmap(_Shape, itertools.product(*widths, *depths))


def _structures(space: SearchSpace, side: str, layer: int, depth: int) -> list[dict[str, int]]:
    """The genes of a layer but for the experts' widths; an even draw has each with equal
    probability. `depth`: encoder layers.
    """
    choices = {
        "self_heads": getattr(space, f"{side}_self_heads"),
        "top_k": space.top_k,
        "experts": space.expert_counts(side, layer),
    }
    if side == "decoder":
        seen = tuple(min(layers, depth) for layers in space.cross_layers)
        choices |= {"cross_heads": space.decoder_cross_heads, "cross_layers": seen}
    product = itertools.product(*choices.values())
    return [dict(zip(choices, values, strict=True)) for values in product]


def _option_count(space: SearchSpace) -> int:
    """O of the layer with the most options."""
    kinds, widths = len(_positive_widths(space)), len(space.expert_ffn_dims)
    return max(
        sum(
            widths * math.comb(genes["experts"] - 2 + kinds, kinds - 1) if genes["experts"] else 1
            for genes in _structures(space, side, 0, space.max_encoder_layers)
        )
        for side in ("encoder", "decoder")
    )


def _positive_widths(space: SearchSpace) -> tuple[int, ...]:
    """The widths that an expert after the first may have."""
    return tuple(width for width in space.expert_ffn_dims if width > 0)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All tuples of `parts` whole numbers with the sum `total`."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _multinomial(numbers: Sequence[int]) -> int:
    """Number of different orders of a multiset."""
    return math.factorial(sum(numbers)) // math.prod(map(math.factorial, numbers))


def _layer_of(
    space: SearchSpace, options: _Options, option: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The layer of an option, its experts after the first in random order."""
    others = np.repeat(_positive_widths(space), options.others[option])
    experts = [int(options.first[option]), *rng.permutation(others).tolist()]
    present = [width for width in experts if width != ABSENT]
    return {**options.genes[option], "expert_ffn_dims": present}


def _made(
    space: SearchSpace, shape: _Shape, layers: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Arch:
    return arch_lib.make(
        qkv_dim=space.qkv_dim,
        encoder_embed_dim=shape.encoder_embed_dim,
        decoder_embed_dim=shape.decoder_embed_dim,
        encoder=layers["encoder"],
        decoder=layers.get("decoder", []),
    )


def _drawn(cumulative: Float[np.ndarray, "weights"], rng: np.random.Generator) -> int:
    """An index with the probability of its weight; `cumulative` is the running sum of weights."""
    index = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return min(int(index), len(cumulative) - 1)
