"""The table of the costs of an architecture in a search, and the limits on them.

A cost has a name, which `Candidate.costs` and the JSON lines of a search use, a unit, a setting of
`config.search` that limits it, and a function that computes it. The search computes all of them at
once and treats them alike. A cost from outside the package is limited by `search.limits`.

This module is imported by the configuration, so it imports no JAX.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from automoe_jax.arch import Arch
from automoe_jax.costs import VOCAB_SIZE, Costs, costs
from automoe_jax.errors import UserError
from automoe_jax.registry import Registry
from automoe_jax.routers import RouterConfig
from automoe_jax.space import SearchSpace

if TYPE_CHECKING:
    from automoe_jax.config import SearchConfig

CostFunction = Callable[[Arch], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The conditions under which the architectures of a search are compared."""

    settings: "SearchConfig"
    router: RouterConfig
    vocab_size: int = VOCAB_SIZE  # pieces of the output vocabulary, or classes
    pre_norm: bool = False
    # the costs that depend on the device, as far as a search limits them (`latency`)
    on_device: Mapping[str, Callable[[Arch], float]] = dataclasses.field(
        default_factory=dict, hash=False, compare=False
    )

    def closed_form(self, arch: Arch) -> Costs:
        """FLOPs and parameters of one sentence pair, or one sentence, of the settings' lengths."""
        return _closed_form(self, arch)


@dataclasses.dataclass(frozen=True)
class Cost:
    """One of the costs of an architecture; lower is better."""

    unit: str  # plural, as a message names it
    # called once for a search; the result is called for every architecture
    prepare: Callable[[Conditions], Callable[[Arch], float]]
    # the setting of `config.search` with the largest value allowed, 0: no limit; a cost from
    # outside the package has none
    limit: str = "limits"
    # a sum over the layers, but for routers, which layers with one expert have too where another
    # has several: even draws within such a limit are fast however few architectures it admits
    additive: bool = False
    # computed from measurements on the device, and only where it is limited
    on_device: bool = False


def _flops(conditions: Conditions) -> Callable[[Arch], float]:
    return lambda arch: conditions.closed_form(arch).flops


def _params(conditions: Conditions) -> Callable[[Arch], float]:
    return lambda arch: conditions.closed_form(arch).params


def _active_params(conditions: Conditions) -> Callable[[Arch], float]:
    return lambda arch: conditions.closed_form(arch).active_params


def _on_device(name: str) -> Callable[[Conditions], Callable[[Arch], float]]:
    return lambda conditions: conditions.on_device[name]


COSTS: Registry[Cost] = Registry(
    "config.search.limits",
    {
        # expected under uniform routing, without the vocabulary projection
        "flops": Cost("FLOPs", _flops, "max_flops", additive=True),
        # with all experts, without embeddings
        "params": Cost("parameters", _params, "max_params", additive=True),
        # with the experts of one token, mean over uniform routing, without embeddings
        "active_params": Cost(
            "active parameters", _active_params, "max_active_params", additive=True
        ),
        # of one batch on the device of `search.device`
        "latency_ms": Cost("ms", _on_device("latency_ms"), "max_latency_ms", on_device=True),
        # that latency relative to the largest dense architecture's
        "latency_share": Cost(
            "of the largest dense latency",
            _on_device("latency_share"),
            "max_latency_share",
            on_device=True,
        ),
        # of the exported model and its weights
        "file_mb": Cost("MB", _on_device("file_mb"), "max_file_mb", on_device=True),
        # largest resident memory of a process that translates
        "memory_mb": Cost("MB", _on_device("memory_mb"), "max_memory_mb", on_device=True),
    },
)

_LATENCIES = {"latency_ms", "latency_share"}  # where one is known, so is the other


def cost_function(conditions: Conditions) -> CostFunction:
    """The function arch → {name: cost} for all costs of the table; of those that depend on the
    device, for the ones in `conditions.on_device`.
    """
    prepared = {
        name: cost.prepare(conditions)
        for name, cost in COSTS.items()
        if not cost.on_device or name in conditions.on_device
    }
    return lambda arch: {name: measure(arch) for name, measure in prepared.items()}


def limits(settings: "SearchConfig") -> dict[str, float]:
    """The limit of each cost that has one."""
    own = {name: getattr(settings, cost.limit) for name, cost in COSTS.items() if _own(cost)}
    others = {name: float(value) for name, value in _listed(settings)}
    return {name: value for name, value in (own | others).items() if value}


def within_limits(costs: Mapping[str, float], settings: "SearchConfig") -> bool:
    """Whether an architecture of these costs may be a candidate."""
    return all(costs[name] <= limit for name, limit in limits(settings).items())


def needs_device(settings: "SearchConfig") -> bool:
    """Whether a limit is on a cost that depends on the device."""
    return any(COSTS[name].on_device for name in limits(settings))


def without_device(settings: "SearchConfig") -> "SearchConfig":
    """The settings without costs that depend on the device, as limits and as objective."""
    measured: dict[str, Any] = {cost.limit: 0.0 for cost in COSTS.values() if cost.on_device}
    objective = "flops" if COSTS[settings.objective].on_device else settings.objective
    return dataclasses.replace(settings, **measured, objective=objective)


def rules(settings: "SearchConfig") -> Iterator[tuple[str, Any, bool, str]]:
    """(field, value, whether it is valid, the rule in words) of the limits."""
    for cost in COSTS.values():
        if _own(cost):
            value = getattr(settings, cost.limit)
            yield f"config.search.{cost.limit}", value, value >= 0, "must not be negative"
    field, objective = "config.search.objective", settings.objective
    yield field, objective, objective in COSTS, COSTS.rule(objective)
    field = "config.search.limits"
    for name, value in _listed(settings):
        yield field, name, name in COSTS, COSTS.rule(name)
        limit = COSTS[name].limit
        yield field, name, not _own(COSTS[name]), f"has its own setting, search.{limit}"
        yield field, value, _is_positive(value), f"must be a positive number, as in {name}=2.5"
    measured = set(limits(settings))
    if measured & _LATENCIES:
        measured |= _LATENCIES
    needs_limit = COSTS[objective].on_device and objective not in measured
    rule = f"needs a limit on it, search.{COSTS[objective].limit}; set that, or another objective"
    yield "config.search.objective", objective, not needs_limit, rule


def check_closed_form(space: SearchSpace, settings: "SearchConfig", router: RouterConfig) -> None:
    """`check_limits` of the package's own costs, which depend on no text: neither FLOPs nor
    parameters count the vocabulary.
    """
    conditions = Conditions(settings, router)
    own = {
        name: cost.prepare(conditions)
        for name, cost in COSTS.items()
        if _own(cost) and not cost.on_device
    }
    without = dataclasses.replace(without_device(settings), limits="")
    check_limits(
        space, without, lambda arch: {name: measure(arch) for name, measure in own.items()}
    )


def check_limits(space: SearchSpace, settings: "SearchConfig", cost: CostFunction) -> None:
    """Raises `UserError` for a limit that the smallest architecture of `space` exceeds."""
    smallest = cost(space.smallest())
    for name, limit in limits(settings).items():
        setting, least = COSTS[name].limit, smallest[name]
        if limit < least:
            others = ", ".join(
                f"{_short(_rounded_up(value))} {COSTS[one].unit}"
                for one, value in smallest.items()
                if one != name
            )
            raise UserError(
                f"search.{setting}={_short(limit)} is below the smallest architecture of this space"
                f" ({_short(_rounded_up(least))} {COSTS[name].unit}; it also has {others}); raise"
                " it, or give the space smaller choices"
            )


def _own(cost: Cost) -> bool:
    """Whether the cost has its own setting."""
    return cost.limit != "limits"


def _listed(settings: "SearchConfig") -> list[tuple[str, str]]:
    """The names and values in `search.limits`."""
    entries = [entry for entry in settings.limits.split(",") if entry.strip()]
    pairs = [entry.partition("=") for entry in entries]
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


# the costs of the table are computed for one architecture after another
@functools.lru_cache(maxsize=1)
def _closed_form(conditions: Conditions, arch: Arch) -> Costs:
    return costs(
        arch,
        conditions.settings.source_length,
        conditions.settings.target_length,
        conditions.vocab_size,
        router=conditions.router.costs(arch),
        pre_norm=conditions.pre_norm,
    )


def _rounded_up(value: float) -> float:
    """`value` rounded up to four digits, so that a limit of this value is met."""
    step = 10 ** max(0, math.floor(math.log10(value)) - 3)
    return math.ceil(value / step) * step


def _short(value: float) -> str:
    """As in 2.1e8."""
    mantissa, _, exponent = f"{value:.12e}".partition("e")
    return f"{float(mantissa):.13g}e{int(exponent)}"
