"""retrain: trains the found architecture and, in the same way, the largest dense one."""

import jax
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.extract import extract
from automoe_jax.model.network import Network, initialised
from automoe_jax.model.transformer import training_options
from automoe_jax.runtime.sharding import placement
from automoe_jax.train import runs
from automoe_jax.train.loop import Run
from automoe_jax.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes the trained sub-Transformer and, if configured, the trained dense Transformer."""
    arch = workdir.arch()
    inherit = config.retrain.init == "inherited"
    _train(config, workdir, "sub-Transformer", workdir.retrained, arch, inherit)
    if config.retrain.dense_baseline:
        _train(
            config,
            workdir,
            "largest dense",
            workdir.dense,
            config.space.largest_dense(),
            inherit=False,
        )


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
