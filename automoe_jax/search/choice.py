"""Choice of the architecture to retrain, among those that a search scored: `config.retrain.arch`.

`best` is the search's own result. `front:3` is the third member of the Pareto front, cheapest
first.
`fastest:0.98` is the fastest candidate whose loss is at most the lowest one divided by 0.98; speed
is the latency where the search has a limit on it, otherwise FLOPs. Any other value is the path of a
JSON file with an architecture, such as `arch.json` of another workdir.

This module is imported by the configuration, so it imports no JAX.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from automoe_jax.arch import Arch
from automoe_jax.errors import UserError

if TYPE_CHECKING:
    from automoe_jax.search.candidate import Candidate

BEST = "best"
SETTING = "config.retrain.arch"


def is_valid(choice: str) -> bool:
    """Whether a value of the setting has one of the forms above."""
    kind, _, value = choice.partition(":")
    match kind:
        case "front":
            return value.isdecimal() and int(value) > 0
        case "fastest":
            return 0 < _number(value) <= 1
        case _:
            return choice == BEST or choice.endswith(".json")


RULE = (
    "must be 'best', 'front:N' (member of the Pareto front, from 1), 'fastest:S' with S in (0, 1],"
    " or the path of a .json file"
)


def is_searched(choice: str) -> bool:
    """Whether the value refers to the candidates of a search."""
    return choice.startswith(("front:", "fastest:"))


def chosen(
    choice: str, candidates: "Sequence[Candidate]", front: "Sequence[Candidate]"
) -> "Candidate":
    """The candidate that "front:N" or "fastest:S" selects; `front`: cheapest first.

    Raises `UserError` for a member that the front does not have.
    """
    kind, _, value = choice.partition(":")
    if kind == "fastest":
        return fastest(candidates, float(value))
    if int(value) > len(front):
        raise UserError(
            f"{SETTING}={choice} is not on the Pareto front of the search, which has"
            f" {len(front)} architectures; set front:1 (the cheapest) to front:{len(front)} (the"
            " lowest loss)"
        )
    return front[int(value) - 1]


def fastest(candidates: "Sequence[Candidate]", share: float) -> "Candidate":
    """The candidate with the lowest latency, or FLOPs, whose loss is at most the lowest / share."""
    complete = [one for one in candidates if one.complete]
    most = min(one.loss for one in complete) / share
    near = [one for one in complete if one.loss <= most]
    return min(near, key=lambda one: (one.costs.get("latency_ms", one.flops), one.rank))


def read_arch(path: str, text: str) -> Arch:
    """The architecture in a JSON file; raises `UserError` for anything else."""
    try:
        return Arch.from_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{SETTING}={path} holds no architecture ({error}); name an arch.json of a workdir"
        ) from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
