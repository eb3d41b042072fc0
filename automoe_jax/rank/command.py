"""The command rank: draws networks, trains them from scratch, and writes the table."""

import dataclasses
import datetime
import sys

from automoe_jax.config import Config
from automoe_jax.errors import UserError
from automoe_jax.latency.search import search_conditions
from automoe_jax.rank.draws import draw_networks
from automoe_jax.rank.networks import inherited_losses, shortened, trained_losses
from automoe_jax.rank.table import Groups, Ranked, correlations, figure, markdown
from automoe_jax.runtime.files import absolute, atomic_writer, write_json
from automoe_jax.runtime.interruption import Interrupted
from automoe_jax.runtime.lock import locked
from automoe_jax.runtime.machine import device
from automoe_jax.search.limits import cost_function
from automoe_jax.search.sampling import even_draws
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir, keep_compilations

FOLDER = "rank"  # in the workdir


def rank(root: str, archs: int, updates: int, seeds: int) -> int:
    """Prints the table of a workdir's SuperNet; returns the exit code."""
    workdir = _opened(root)
    config = workdir.config()
    if config.space.size() == 1:
        raise UserError(
            f"--workdir={root} has a space of one architecture: there is nothing to rank"
        )
    if not runs.is_complete(workdir.supernet):
        raise UserError(
            f"--workdir={root} holds no trained SuperNet yet; finish its supernet stage with"
            " automoe_jax.main"
        )
    config = dataclasses.replace(config, retrain=shortened(config, updates))
    keep_compilations(workdir)
    with locked(workdir.root):
        try:
            networks = ranked(config, workdir, archs, seeds)
        except Interrupted as stopped:
            print(stopped, file=sys.stderr)
            return stopped.exit_code
        groups = correlations(networks)
        print(write(config, workdir, networks, groups))
    return 0


def ranked(config: Config, workdir: Workdir, archs: int, seeds: int) -> list[Ranked]:
    """The networks with their costs and losses; trains those that are not in the workdir's
    folder.
    """
    cost = cost_function(search_conditions(config, workdir, workdir.spec(config)))
    draw = even_draws(config.space, config.search, cost)
    drawn = draw_networks(
        draw, lambda arch: cost(arch)["flops"], archs, config.space.size(), config.seed
    )
    trained = trained_losses(config, workdir, workdir.root / FOLDER, drawn.archs, seeds)
    inherited = inherited_losses(config, workdir, drawn.archs)
    costs = [cost(arch) for arch in drawn.archs]
    return [
        Ranked(arch, alike, own["flops"], own["params"], loss, tuple(losses))
        for arch, alike, own, loss, losses in zip(*drawn, costs, inherited, trained, strict=True)
    ]


def write(config: Config, workdir: Workdir, networks: list[Ranked], groups: Groups) -> str:
    """Writes rank.json, rank.md and rank.svg; returns the table."""
    seeds, steps = len(networks[0].trained), config.retrain.steps
    conditions = (
        f"{len(networks)} networks, each trained {seeds} × {steps} updates;"
        f" {config.supernet.steps} updates of the SuperNet, seed {config.seed}; {device()},"
        f" {datetime.date.today()}."
    )
    folder, text = workdir.root / FOLDER, markdown(networks, groups, conditions)
    record = {
        "conditions": conditions,
        "tau": {
            group: {name: tau._asdict() for name, tau in taus.items()}
            for group, taus in groups.items()
        },
        "networks": [one.to_json() for one in networks],
    }
    for name, content in (("rank.svg", figure(networks, groups)), ("rank.md", text)):
        with atomic_writer(folder / name) as file:
            file.write(content.encode())
    write_json(folder / "rank.json", record)
    return f"{text}\nrank: {folder / 'rank.md'}, rank.json and rank.svg"


def _opened(root: str) -> Workdir:
    workdir = Workdir(absolute(root))
    if not workdir.config_path.exists():
        raise UserError(
            f"--workdir={root} holds no run; train one with python -m automoe_jax.main"
            f" --workdir={root} first"
        )
    return workdir
