"""supernet: trains the weights that all sub-Transformers share, by sampling sub-networks (AutoMoE,
SuperNet training).
"""

import functools

import jax
import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.model.network import initialised
from automoe_jax.model.transformer import ForwardOptions
from automoe_jax.runtime.sharding import placement
from automoe_jax.search.limits import Conditions, check_limits, cost_function
from automoe_jax.train import runs
from automoe_jax.train.loop import Run
from automoe_jax.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes the trained SuperNet to the workdir; skipped for a space of one architecture."""
    space, train = config.space, config.supernet
    if space.size() == 1:
        print("supernet: the space has one architecture, which needs none", flush=True)
        return
    # Costs from outside the package may depend on the vocabulary, which is known only now.
    spec = workdir.spec(config)
    conditions = Conditions(config.search, config.router, spec.output_size, spec.norm == "pre")
    check_limits(space, config.search, cost_function(conditions))
    print(f"supernet: a space of {space.size():.3g} architectures", flush=True)
    run = Run(
        title="SuperNet",
        folder=workdir.supernet,
        train=train,
        forward_options=ForwardOptions(
            config.model.dropout,
            config.model.attention_dropout,
            config.model.dtype,
            remat=config.remat,
        ),
        seed=config.seed,
        archs=functools.partial(sampled, config),
        probes={"largest": space.largest(), "smallest": space.smallest()},
        placement=placement(config),
    )
    start = lambda: initialised(workdir.spec(config), jax.random.key(config.seed))  # noqa: E731
    summary = runs.complete(
        run, start, config.data, workdir.tokens("train"), workdir.tokens("validation")
    )
    print(
        f"supernet: validation loss of the largest architecture {summary.validation_nll:.3f} nats"
        " per token",
        flush=True,
    )


def sampled(config: Config, step: int) -> list[Arch]:
    """Sub-networks of an update, drawn from the seed and the update's number only: the same in
    every process.
    """
    rng, space = np.random.default_rng([config.seed, step]), config.space
    if config.supernet.sampling == "uniform":
        return [space.sample(rng)]
    return [
        space.largest(),
        space.smallest(),
        *(space.sample(rng) for _ in range(config.supernet.sandwich_random)),
    ]
