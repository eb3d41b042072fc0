"""supernet: trains the weights that all sub-Transformers share, by sampling sub-networks (AutoMoE,
SuperNet training).
"""

import functools
from typing import NamedTuple

import jax
import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.latency.search import search_conditions
from automoe_jax.model.network import Network, initialised
from automoe_jax.model.transformer import training_options
from automoe_jax.runtime.sharding import placement
from automoe_jax.search.limits import Conditions, check_limits, cost_function
from automoe_jax.search.sampling import Draw, even_draws, largest_within, share_within
from automoe_jax.train import routing, runs
from automoe_jax.train.loop import Run
from automoe_jax.train.metrics import read_metrics
from automoe_jax.workdir import Workdir

SHARE_DRAWS = 1000  # for the share that the limits admit: to 3 points, in 19 of 20 cases
FAIR_UPDATES = 12  # in which every choice of a gene occurs equally often, up to 4 of them


def run(config: Config, workdir: Workdir) -> None:
    """Writes the trained SuperNet to the workdir; skipped for a space of one architecture."""
    space, train = config.space, config.supernet
    if space.size() == 1:
        print("supernet: skipped, because the space has one architecture", flush=True)
        return
    trained = trained_part(config, search_conditions(config, workdir, workdir.spec(config)))
    print(
        f"supernet: a space of {space.size():.3g} architectures; the limits of the search admit"
        f" about {trained.admitted:.0%} of even draws from it",
        flush=True,
    )
    run = Run(
        title="SuperNet",
        folder=workdir.supernet,
        train=train,
        forward_options=training_options(config),
        seed=config.seed,
        archs=functools.partial(sampled, config, trained),
        probes={"largest": trained.largest, "smallest": space.smallest()},
        placement=placement(config),
    )

    def start() -> Network:
        return initialised(workdir.spec(config), jax.random.key(config.seed))

    summary = runs.complete(
        run, start, config.data, workdir.tokens("train"), workdir.tokens("validation")
    )
    print(
        f"supernet: validation loss of the largest architecture {summary.validation_nll:.3f} nats"
        " per token",
        flush=True,
    )
    records = read_metrics(workdir.supernet)
    if collapsed := routing.warning("supernet", records, config.router, train.balance_loss):
        print(collapsed, flush=True)


class TrainedPart(NamedTuple):
    """The part of the space that the SuperNet's updates train."""

    draw: Draw  # even draws from it
    largest: Arch
    admitted: float  # share of even draws from the whole space that the limits admit


def trained_part(config: Config, conditions: Conditions) -> TrainedPart:
    """The architectures within the limits of the search, or with `supernet.within_limits` off the
    whole space.

    Raises `UserError` when the smallest architecture exceeds a limit.
    """
    space, settings = config.space, config.search
    cost = cost_function(conditions)
    check_limits(space, settings, cost)
    admitted = share_within(space, settings, cost, SHARE_DRAWS)
    if not config.supernet.within_limits:
        return TrainedPart(space.sample, space.largest(), admitted)
    draw = even_draws(space, settings, cost)
    return TrainedPart(draw, largest_within(space, settings, cost, draw), admitted)


def sampled(config: Config, trained: TrainedPart, step: int) -> list[Arch]:
    """Sub-networks of an update, drawn from the seed and the update's number, from 1, only: the
    same in every process.
    """
    if step <= config.supernet.largest_steps:
        return [trained.largest]
    if config.supernet.sampling == "fair":
        block, place = divmod(step - 1, FAIR_UPDATES)
        rng = np.random.default_rng([config.seed, block])
        return [config.space.fair(rng, FAIR_UPDATES)[place]]
    rng = np.random.default_rng([config.seed, step])
    if config.supernet.sampling == "uniform":
        return [trained.draw(rng)]
    return [
        trained.largest,
        config.space.smallest(),
        *(trained.draw(rng) for _ in range(config.supernet.sandwich_random)),
    ]
