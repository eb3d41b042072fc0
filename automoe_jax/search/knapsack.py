"""A knapsack over scores of the layers' parts, each measured once in the largest network, as in
Puzzle (arXiv 2411.19146, section 3: blocks scored by replacing one at a time, then an integer
program).

A part is the self attention, the cross attention or the FFN of one layer. An option of a part is
scored by the loss of the largest architecture with only this part replaced, minus the loss of the
largest one. The loss of an architecture is predicted as that of the largest one of its shape
(embedding widths and depths) plus the scores of its parts; its costs likewise. For each shape an
integer program finds the lowest predicted loss within the limits. The best architectures that it
finds are scored in the end.

The number of scored architectures is that of `evolution`: shapes and options are drawn at random
where there are more, and `SOLUTIONS` of the budget is left for what the program finds. Replacing
one part of the largest architecture mostly gives one beyond the limits, which is scored and
recorded, but is no result of the search.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from automoe_jax.arch import SIDES, Arch
from automoe_jax.config import SearchConfig
from automoe_jax.search import evolution
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.ledger import Ledger, Proposal
from automoe_jax.search.limits import CostFunction, check_limits, limits, within_limits
from automoe_jax.search.stopping import Trial
from automoe_jax.space import SearchSpace

DRAWS = 5000  # even draws from the space in which options of the parts are found
SHAPES = 0.25  # largest share of the evaluations for the largest architectures of the shapes
SOLUTIONS = 0.2  # share of the evaluations for solutions of the integer program
# Times in a row that a solution beyond the limits tightens the program's limits by the excess.
REPAIRS = 20
PARTS = {
    "attention": ("self_heads",),
    "cross attention": ("cross_heads", "cross_layers"),
    "FFN": ("expert_ffn_dims", "top_k"),
}

Record = dict[str, Any]  # of `Arch.to_dict`


class Place(NamedTuple):
    """A part of a layer."""

    side: str
    layer: int
    part: str


class Option(NamedTuple):
    """A choice of a part: values of the layer's fields, as (name, value)."""

    place: Place
    values: tuple[tuple[str, Any], ...]


class Effect(NamedTuple):
    """The difference that an option makes to the largest architecture."""

    loss: float
    costs: Mapping[str, float]


def search(
    space: SearchSpace,
    settings: SearchConfig,
    *,
    score: Callable[[Sequence[Trial]], Iterable[Score]],
    cost: CostFunction,
    seed: int,
    record: Callable[[Candidate], None] = lambda candidate: None,
    known: Mapping[Arch, Score] | None = None,
    progress: Callable[[int, int, float], None] = lambda iteration, done, best_loss: None,
) -> list[Candidate]:
    """As `algorithms.Search`, but also scores architectures beyond the limits, which are recorded
    and not returned.

    Raises `UserError` when the smallest architecture exceeds a limit.
    """
    check_limits(space, settings, cost)
    budget = evolution.max_candidates(settings)
    solutions = max(1, int(SOLUTIONS * budget))
    ledger = Ledger(score, known or {}, record, progress)
    rng = np.random.default_rng(seed)
    bases, options = _choices(space, rng, max(1, budget - solutions))
    ledger.add(0, [Proposal(arch, cost(arch), "largest of a shape") for arch in bases])
    replaced = {option: _replaced(space.largest(), [option]) for option in options}
    ledger.add(1, [Proposal(arch, cost(arch), "one part replaced") for arch in replaced.values()])
    scored = {one.arch: one for one in ledger.candidates}
    largest = scored[space.largest()]
    effects = {
        option: _effect(scored[arch], largest)
        for option, arch in replaced.items()
        if math.isfinite(scored[arch].loss)
    }
    found = _solutions(space, settings, cost, [scored[arch] for arch in bases], effects)
    new = [arch for arch in itertools.islice(found, solutions) if arch not in scored]
    ledger.add(2, [Proposal(arch, cost(arch), "knapsack") for arch in new])
    return [one for one in ledger.candidates if within_limits(one.costs, settings)] or _smallest(
        ledger, space, cost
    )


def _smallest(ledger: Ledger, space: SearchSpace, cost: CostFunction) -> list[Candidate]:
    """The smallest architecture, scored: the result where nothing else is within the limits."""
    arch = space.smallest()
    ledger.add(2, [Proposal(arch, cost(arch), "smallest")])
    return ledger.candidates[-1:]


def _choices(
    space: SearchSpace, rng: np.random.Generator, budget: int
) -> tuple[list[Arch], list[Option]]:
    """(the largest architectures of the shapes, the largest of all first; options of the parts), at
    most `budget` together. The smallest shape and the smallest option of every part come first.
    """
    largest = space.largest()
    record = largest.to_dict()
    drawn = [space.sample(rng).to_dict() for _ in range(DRAWS)]
    smallest = space.smallest().to_dict()
    shapes = list(dict.fromkeys(map(_shape, [smallest, *drawn])))
    bases = [_largest_of(record, shape) for shape in shapes if shape != _shape(record)]
    most = max(0, int(SHAPES * budget) - 2)
    bases = [largest, *bases[:1], *_some(bases[1:], rng, most)][:budget]
    own = set(_options([record]))
    first = [one for one in dict.fromkeys(_options([smallest])) if one not in own]
    others = set(_options(drawn)) - own - set(first)
    options = [one for one in sorted(others) if space.contains(_replaced(largest, [one]))]
    rest = max(0, budget - len(bases) - len(first))
    return bases, [*first[: budget - len(bases)], *_some(options, rng, rest)]


def _some(values: Sequence[Any], rng: np.random.Generator, count: int) -> list[Any]:
    """At most `count` of the values, in random order."""
    return [values[i] for i in rng.permutation(len(values))[:count]]


def _shape(record: Record) -> tuple[int, ...]:
    return tuple(
        number
        for side in SIDES
        for number in (record[side]["embed_dim"], len(record[side]["layers"]))
    )


def _largest_of(record: Record, shape: tuple[int, ...]) -> Arch:
    """The largest architecture of a shape, from that of the space."""
    made = copy.deepcopy(record)
    widths, depths = shape[::2], shape[1::2]
    for side, width, depth in zip(SIDES, widths, depths, strict=True):
        made[side] |= {"embed_dim": width, "layers": made[side]["layers"][:depth]}
    return Arch.from_dict(_clipped(made))


def _clipped(record: Record) -> Record:
    """The record with no decoder layer that sees more encoder layers than there are."""
    depth = len(record["encoder"]["layers"])
    for layer in record["decoder"]["layers"]:
        layer["cross_layers"] = min(layer["cross_layers"], depth)
    return record


def _options(records: Iterable[Record]) -> Iterator[Option]:
    """The options that these architectures have; widths of experts after the first are sorted,
    since their order changes no cost.
    """
    for record in records:
        for side in SIDES:
            for i, layer in enumerate(record[side]["layers"]):
                for part, names in PARTS.items():
                    values = tuple((name, _value(layer[name])) for name in names if name in layer)
                    if values:
                        yield Option(Place(side, i, part), values)


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return (*value[:1], *sorted(value[1:], reverse=True))
    return value


def _replaced(arch: Arch, options: Iterable[Option]) -> Arch:
    """The architecture with these options in the layers that it has."""
    record = arch.to_dict()
    for (side, i, _), values in options:
        if i < len(record[side]["layers"]):
            record[side]["layers"][i] |= {
                name: list(value) if isinstance(value, tuple) else value for name, value in values
            }
    return Arch.from_dict(_clipped(record))


def _effect(one: Candidate, largest: Candidate) -> Effect:
    costs = {name: value - largest.costs[name] for name, value in one.costs.items()}
    return Effect(one.loss - largest.loss, costs)


def _solutions(
    space: SearchSpace,
    settings: SearchConfig,
    cost: CostFunction,
    bases: Sequence[Candidate],
    effects: Mapping[Option, Effect],
) -> Iterator[Arch]:
    """Architectures within the limits, by predicted loss, each once."""
    programs = [_Program(base, effects, settings) for base in bases if math.isfinite(base.loss)]
    waiting = {program: program.solved() for program in programs}
    given: set[Arch] = set()
    repairs = REPAIRS
    while solved := {program: one for program, one in waiting.items() if one is not None}:
        program = min(solved, key=lambda program: solved[program].loss)
        arch = _replaced(program.base.arch, solved[program].options)
        costs = cost(arch)
        if within_limits(costs, settings):
            repairs = REPAIRS
            if arch not in given and space.contains(arch):
                given.add(arch)
                yield arch
        elif repairs:
            repairs -= 1
            program.tighten(costs)
        waiting[program] = program.solved(without=solved[program].chosen)


class _Solution(NamedTuple):
    loss: float  # predicted
    options: list[Option]
    chosen: np.ndarray  # [O] 1 for the options that it has


class _Program:
    """The integer program of a shape: at most one option for each place, within the limits, with
    the lowest predicted loss. Without an option a place is that of the largest architecture.

    Axes: O options · R rows of constraints.
    """

    def __init__(self, base: Candidate, effects: Mapping[Option, Effect], settings: SearchConfig):
        self.base = base
        depths = {side: len(base.arch.to_dict()[side]["layers"]) for side in SIDES}
        self._options = [
            option for option in effects if option.place.layer < depths[option.place.side]
        ]
        self._losses = np.array([effects[option].loss for option in self._options])
        self._limits = limits(settings)
        places = list(dict.fromkeys(option.place for option in self._options))
        one_of = [[option.place == place for option in self._options] for place in places]
        self._costs_at = len(places)  # first row of the costs
        costs = [[effects[option].costs[name] for option in self._options] for name in self._limits]
        self._rows = np.array([*one_of, *costs], float).reshape(
            len(places) + len(costs), len(self._options)
        )
        self._highest = np.array(
            [1.0] * len(places) + [limit - base.costs[name] for name, limit in self._limits.items()]
        )

    def solved(self, without: np.ndarray | None = None) -> _Solution | None:
        """The best solution, and no more the one given; None if there is no other."""
        if without is not None:
            # another choice differs in at least one option
            self._rows = np.vstack([self._rows, 2 * without - 1])
            self._highest = np.append(self._highest, without.sum() - 1)
        if not self._options:
            fits = bool((self._highest >= 0).all()) and without is None
            return _Solution(self.base.loss, [], np.zeros(0)) if fits else None
        scale = np.abs(self._rows).max(axis=1, initial=1e-30)
        found = optimize.milp(
            self._losses,
            integrality=np.ones(len(self._options)),
            bounds=optimize.Bounds(0, 1),
            constraints=optimize.LinearConstraint(
                self._rows / scale[:, None], ub=self._highest / scale
            ),
        )
        if found.x is None:
            return None
        chosen = np.round(found.x)
        options = [option for option, taken in zip(self._options, chosen, strict=True) if taken]
        return _Solution(self.base.loss + float(self._losses @ chosen), options, chosen)

    def tighten(self, costs: Mapping[str, float]) -> None:
        """Lowers the limits by the excess of a solution's true costs."""
        for row, (name, limit) in enumerate(self._limits.items(), self._costs_at):
            self._highest[row] -= max(0.0, costs[name] - limit)
