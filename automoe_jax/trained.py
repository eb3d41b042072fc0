"""The trained networks of a run, by role: their architectures, folders and routers' costs."""

import dataclasses

from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.costs import RouterCosts
from automoe_jax.report.rows import Role
from automoe_jax.search import rival
from automoe_jax.train.metrics import read_metrics
from automoe_jax.workdir import Workdir


def folder(workdir: Workdir, role: Role) -> epath.Path:
    """The folder of the training run whose weights the network of a role has."""
    return {
        Role.RETRAINED: workdir.retrained,
        Role.INHERITED: workdir.supernet,
        Role.DENSE: workdir.dense,
        Role.RIVAL: workdir.rival,
    }[role]


def arch(config: Config, workdir: Workdir, role: Role) -> Arch:
    """The architecture of a role; raises `UserError` if the stage that chooses it has not run."""
    match role:
        case Role.DENSE:
            return config.space.largest_dense()
        case Role.RIVAL:
            return workdir.rival_arch()
        case _:
            return workdir.arch()


def router_costs(config: Config, workdir: Workdir, role: Role) -> RouterCosts:
    """Contribution of the router to the costs of a role's network. Where a token's number of
    experts depends on the text (DA-MoE), it is the mean of each layer over the last updates of the
    training, for a network that was trained alone and has such records.
    """
    expected = config.router.costs(arch(config, workdir, role))
    if not config.router.declaration.counts_vary or role is Role.INHERITED:
        return expected
    records = read_metrics(folder(workdir, role))
    measured = [record.get("experts_per_token") for record in records]
    layers = next((means for means in reversed(measured) if means), None)
    if layers is None or len(layers) != len(expected.experts_per_token or ()):
        return expected
    means = tuple(1.0 if mean is None else mean for mean in layers)
    return dataclasses.replace(expected, experts_per_token=means)


def compared(config: Config, workdir: Workdir) -> list[Role]:
    """The roles of the networks that are trained to compare the found one with, in the order of
    their rows. The rival is left out where its architecture is that of another trained network.
    """
    dense = [Role.DENSE] if config.retrain.dense_baseline else []
    rivals = _has_rival(config, workdir) and not twin_of_rival(config, workdir)
    return [Role.RIVAL, *dense] if rivals else dense


def twin_of_rival(config: Config, workdir: Workdir) -> Role | None:
    """The role of another trained network that has the rival's architecture, if there is one."""
    if not _has_rival(config, workdir):
        return None
    others = [Role.RETRAINED, *([Role.DENSE] if config.retrain.dense_baseline else [])]
    wanted = arch(config, workdir, Role.RIVAL)
    return next((role for role in others if arch(config, workdir, role) == wanted), None)


def _has_rival(config: Config, workdir: Workdir) -> bool:
    """Whether the search has found a dense rival."""
    return rival.subspace(config) is not None and workdir.rival_arch_path.exists()
