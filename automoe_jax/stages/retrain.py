"""retrain: trains the found architecture and, in the same way, the best dense one within the limits
and the largest dense one.
"""

import functools

import jax
from etils import epath

from automoe_jax import trained
from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.errors import UserError
from automoe_jax.evaluation import contenders
from automoe_jax.extract import extract
from automoe_jax.model.network import Network, initialised
from automoe_jax.model.transformer import training_options
from automoe_jax.report.rows import Role, RowKey
from automoe_jax.runtime.files import write_json
from automoe_jax.runtime.processes import first_alone, is_first, wait_for_all
from automoe_jax.runtime.sharding import placement
from automoe_jax.search import choice, history
from automoe_jax.train import routing, runs
from automoe_jax.train.loop import Run
from automoe_jax.train.metrics import read_metrics
from automoe_jax.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes the trained sub-Transformer and, if configured, the dense Transformers that it is
    compared with.
    """
    inherit = config.retrain.init == "inherited"
    first: list[Role] = []
    if config.retrain.candidates > 1:
        # the contenders are timed against it
        first = [Role.DENSE] if config.retrain.dense_baseline else []
        for role in first:
            _train_compared(config, workdir, role)
        _train_best(config, workdir, inherit)
    else:
        arch = _choose(config, workdir)
        _train(config, workdir, "sub-Transformer", workdir.retrained, arch, inherit)
    if twin := trained.twin_of_rival(config, workdir):
        print(
            "retrain: the best dense architecture within the limits is that of the"
            f" {RowKey(twin).title}",
            flush=True,
        )
    for role in trained.compared(config, workdir):
        if role not in first:
            _train_compared(config, workdir, role)


def _train_compared(config: Config, workdir: Workdir, role: Role) -> None:
    arch, folder = trained.arch(config, workdir, role), trained.folder(workdir, role)
    _train(config, workdir, RowKey(role).title, folder, arch, inherit=False)


def _train_best(config: Config, workdir: Workdir, inherit: bool) -> None:
    """Trains the contenders and makes the best one the retrained sub-Transformer."""
    planned = contenders.planned(config, workdir)
    before = next((index for index, one in enumerate(planned) if one.chosen), None)
    if before is not None:
        first_alone(functools.partial(contenders.install, workdir, before))
        if runs.is_complete(workdir.retrained):
            return
    for index, one in enumerate(planned):
        title = f"candidate {index + 1} of {len(planned)}"
        _train(config, workdir, title, workdir.contender(index), one.arch, inherit)
    first_alone(functools.partial(_keep_best, config, workdir))


def _keep_best(config: Config, workdir: Workdir) -> None:
    index, _ = contenders.chosen(config, workdir, contenders.load(workdir))
    contenders.install(workdir, index)
    print(f"retrain: candidate {index + 1}, {contenders.note(config, workdir)}", flush=True)


def _choose(config: Config, workdir: Workdir) -> Arch:
    """The architecture to train; a choice other than the search's result is written to a file,
    which an interrupted stage reads again.
    """
    wanted, path = config.retrain.arch, workdir.chosen_arch_path
    if wanted == choice.BEST or (path.exists() and workdir.has_begun("retrain")):
        return workdir.arch()
    if choice.is_searched(wanted):
        candidates = history.load_within(workdir.candidates_path, config.search)
        front = history.load_front(workdir.pareto_path)
        arch = choice.chosen(wanted, candidates, front).arch
    else:
        arch = _from_file(wanted)
    if not config.space.contains(arch):
        raise UserError(
            f"{choice.SETTING}={wanted} holds an architecture outside config.space; choose another"
            " one, or set the space that it comes from"
        )
    if is_first():
        write_json(path, arch.to_dict())
    wait_for_all("architecture")
    return arch


def _from_file(path: str) -> Arch:
    file = epath.Path(path)
    if not file.exists():
        raise UserError(f"{choice.SETTING}={path} does not exist; {choice.RULE}")
    return choice.read_arch(path, file.read_text())


def _train(
    config: Config, workdir: Workdir, title: str, folder: epath.Path, arch: Arch, inherit: bool
) -> None:
    def start() -> Network:
        if inherit:
            return extract(runs.load(workdir.supernet, workdir.spec(config)), arch)
        return initialised(workdir.spec(config, arch), jax.random.key(config.seed))

    run = Run(
        title=title,
        folder=folder,
        train=config.retrain,
        forward_options=training_options(config),
        seed=config.seed,
        archs=lambda _: [arch],
        probes={"": arch},
        placement=placement(config),
    )
    summary = runs.complete(
        run, start, config.data, workdir.tokens("train"), workdir.tokens("validation")
    )
    print(f"{title}: validation loss {summary.validation_nll:.3f} nats per token", flush=True)
    records, balance_loss = read_metrics(folder), config.retrain.balance_loss
    if collapsed := routing.warning("retrain", records, config.router, balance_loss):
        print(collapsed, flush=True)
