"""How well SuperNets rank networks: Kendall's τ with the losses after training, by scheme.

    python -m benchmarks.ranking --workdir=runs/ranking ["--schemes=whole space;within limits"]

The space of the demo at half its width, on the built-in text, under a limit of FLOPs. The networks
are trained from scratch once, into WORKDIR/rank; every scheme ranks the same ones, half of which
have equal FLOPs. With --trainings=2, the agreement of two trainings of the same networks says how
much of a loss is noise, which bounds τ. SuperNets are in WORKDIR/schemes. Finished parts are
skipped. Intervals of 95 % are bootstrapped over the networks. No test text is used.
"""

import argparse
import dataclasses
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from automoe_jax.command.configuration import ConfigFile, read_config
from automoe_jax.config import Config, flatten, from_flat
from automoe_jax.costs import costs
from automoe_jax.rank.command import FOLDER
from automoe_jax.rank.correlation import Interval
from automoe_jax.rank.draws import Drawn, draw_networks
from automoe_jax.rank.networks import inherited_losses, trained_losses
from automoe_jax.rank.table import AGAIN, FLOPS, INHERITED, PARAMS, Ranked, cell, correlations
from automoe_jax.runtime.memory import keep_freed_memory
from automoe_jax.search.limits import Conditions, CostFunction, cost_function
from automoe_jax.search.sampling import even_draws
from automoe_jax.stages import run_stages
from automoe_jax.workdir import Workdir, open_workdir

DEMO = "configs/demo.py"
SHARE = 0.8  # of the largest dense network's FLOPs: the limit
GOAL = 0.8  # τ
RESAMPLES = 2000
SETTINGS = {
    "space.qkv_dim": 48,
    "space.encoder_embed_dims": (48,),
    "space.decoder_embed_dims": (48,),
    "space.expert_ffn_dims": (32, 64, 128),
    "search.max_latency_share": 0.0,
    "search.objective": "flops",
    "search.validation_tokens": 0,
    "retrain.steps": 250,
    "retrain.tokens_per_batch": 1024,
    "retrain.warmup_steps": 60,
    "retrain.evaluate_every": 250,
    "retrain.checkpoint_every": 125,
    "supernet.steps": 250,
    "supernet.tokens_per_batch": 1024,
    "supernet.warmup_steps": 60,
    "supernet.evaluate_every": 1000,
    "supernet.checkpoint_every": 125,
}
WITHIN: dict[str, Any] = {"supernet.within_limits": True}
SANDWICH: dict[str, Any] = WITHIN | {"supernet.sampling": "sandwich", "supernet.sandwich_random": 1}
SCHEMES: Mapping[str, Mapping[str, Any]] = {
    "whole space": {},
    "whole space, fair": {"supernet.sampling": "fair"},
    "within limits": WITHIN,
    "within limits, 750 updates": WITHIN | {"supernet.steps": 750},
    # three sub-networks an update, as many passes as 750 updates of one
    "sandwich": SANDWICH | {"supernet.distillation": False},
    "sandwich, distilled": SANDWICH,
    "within limits, truncated normal": WITHIN | {"model.ffn_init": "truncated_normal"},
    "within limits, longer warm-up": WITHIN | {"supernet.warmup_steps": 120},
    "within limits, largest first": WITHIN | {"supernet.largest_steps": 120},
    "2 weight sets": WITHIN | {"supernet.weight_sets": 2},
}


def configuration(changes: Mapping[str, Any], seed: int = 0) -> Config:
    """The demo's settings with those of this benchmark and of a scheme."""
    settings = flatten(dataclasses.asdict(read_config(ConfigFile.parse(DEMO), [])))
    config = from_flat({**settings, **SETTINGS, **changes, "seed": seed})
    search = config.search
    lengths = search.source_length, search.target_length
    dense = costs(config.space.largest_dense(), *lengths, config.data.vocab_size).flops
    limited = dataclasses.replace(search, max_flops=SHARE * dense)
    return dataclasses.replace(config, search=limited)


def prepared(root: str, config: Config) -> Workdir:
    """The workdir with the text, which all SuperNets share."""
    workdir = open_workdir(root, config)
    run_stages(dataclasses.replace(config, stages="prepare"), workdir)
    return workdir


def supernet(base: Workdir, scheme: str, seed: int) -> tuple[Config, Workdir]:
    """A trained SuperNet of a scheme, trained unless it is finished."""
    config = configuration(SCHEMES[scheme], seed)
    name = "".join(filter(str.isalnum, scheme))
    workdir = open_workdir(base.root / "schemes" / f"{name}-{seed}", config)
    for part in ("data", "stages"):
        if not (workdir.root / part).exists():
            shutil.copytree(base.root / part, workdir.root / part)
    run_stages(dataclasses.replace(config, stages="supernet"), workdir)
    return config, workdir


def closed_form(config: Config) -> CostFunction:
    """The costs of an architecture."""
    return cost_function(Conditions(config.search, config.router, config.data.vocab_size, False))


def measured(
    config: Config, drawn: Drawn, trained: list[list[float]], inherited: list[float]
) -> list[Ranked]:
    """The networks with their costs and losses."""
    cost = closed_form(config)
    return [
        Ranked(arch, alike, cost(arch)["flops"], cost(arch)["params"], loss, tuple(losses))
        for arch, alike, loss, losses in zip(*drawn, inherited, trained, strict=True)
    ]


def rows(title: str, networks: list[Ranked], names: Mapping[str, str]) -> list[str]:
    """Rows of the table: τ of predictors, over all networks and over those of equal FLOPs."""
    groups = correlations(networks).values()
    return [
        f"| {title}{shown} | {' | '.join(cell(group[name]) for group in groups)} |"
        for name, shown in names.items()
    ]


def noise_bounds(networks: list[Ranked]) -> dict[str, Interval]:
    """What the noise of a training leaves to predict, from the correlation of two trainings: the
    architectures' share of a loss's variance; τ of a predictor that knows them without noise with
    the mean of two trainings, if losses are normal; trainings of each network for τ = `GOAL`.
    """
    losses = np.array([one.trained[:2] for one in networks])
    draws = np.random.default_rng(0).integers(0, len(losses), (RESAMPLES, len(losses)))
    values = [np.corrcoef(losses[drawn].T)[0, 1] for drawn in draws]
    own = [np.corrcoef(losses.T)[0, 1], *np.quantile(values, (0.025, 0.975))]
    share = np.clip(own, 1e-3, 1 - 1e-3)
    wanted = np.sin(np.pi * GOAL / 2) ** 2  # of the variance of a mean, for normal losses
    most = 2 / np.pi * np.arcsin(np.sqrt(2 * share / (1 + share)))
    value, most_needed, least_needed = wanted * (1 - share) / (share * (1 - wanted))
    return {
        "architectures' share of the variance": Interval(*map(float, share)),
        "τ of a predictor without noise": Interval(*map(float, most)),
        f"trainings of each network for τ = {GOAL}": Interval(value, least_needed, most_needed),
    }


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description=__doc__)
    parser.add_argument("--workdir", default="runs/ranking", help="where the runs are kept")
    parser.add_argument("--archs", type=int, default=32, help="networks")
    parser.add_argument("--seeds", default="0", help="of the SuperNets, separated by commas")
    parser.add_argument("--schemes", default=";".join(SCHEMES), help="names, separated by ;")
    parser.add_argument(
        "--trainings", type=int, default=1, choices=(1, 2), help="of each network (default: 1)"
    )
    parser.add_argument("--train", help="networks, or supernets: trains these and prints no table")
    flags = parser.parse_args()
    keep_freed_memory()
    config = configuration({})
    base = prepared(flags.workdir, config)
    cost = closed_form(config)
    draw = even_draws(config.space, config.search, cost)
    size = config.space.size()
    drawn = draw_networks(draw, lambda arch: cost(arch)["flops"], flags.archs, size, seed=0)
    trained = []
    if flags.train != "supernets":
        trained = trained_losses(config, base, base.root / FOLDER, drawn.archs, flags.trainings)
    if flags.train == "networks":
        return
    print("| predictor | all networks | equal FLOPs |\n| --- | ---: | ---: |")
    for name in flags.schemes.split(";"):
        for seed in flags.seeds.split(","):
            own, workdir = supernet(base, name, int(seed))
            inherited = inherited_losses(own, workdir, drawn.archs)
            losses = f"{min(inherited):.2f}–{max(inherited):.2f}"
            if trained:
                networks = measured(config, drawn, trained, inherited)
                shown = {INHERITED: "", f"{INHERITED} − {FLOPS}": ", − FLOPs"}
                title = f"{name}, seed {seed}, {losses} nats"
                print(*rows(title, networks, shown), sep="\n", flush=True)
    if trained:
        alone = {FLOPS: "FLOPs alone", PARAMS: "parameters alone"}
        if flags.trainings > 1:
            alone[AGAIN] = "another training"
        print(*rows("", networks, alone), sep="\n")
    if trained and flags.trainings > 1:
        alike = [one for one in networks if one.alike]
        for name, every in noise_bounds(networks).items():
            print(f"| {name} | {cell(every)} | {cell(noise_bounds(alike)[name])} |")


if __name__ == "__main__":
    main()
