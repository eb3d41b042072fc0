"""Losses of networks: trained from scratch, one after another, and with the SuperNet's weights."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import Config, RetrainConfig
from automoe_jax.dependencies import FREE, completed
from automoe_jax.errors import UserError
from automoe_jax.extract import insert
from automoe_jax.model.network import Network, initialised
from automoe_jax.model.transformer import training_options
from automoe_jax.runtime.files import append_line, read_json, read_lines, write_json
from automoe_jax.runtime.sharding import placement
from automoe_jax.search.evaluator import inherited_loss
from automoe_jax.search.stopping import Trial
from automoe_jax.train import runs
from automoe_jax.train.loop import Run
from automoe_jax.workdir import Workdir, settings_of

_GROUPS = ("seed", "task", "data.", "model.", "router.", "space.", "retrain.")
# settings of the stage retrain that do not concern a network trained from scratch
_OTHERS = {"retrain.arch", "retrain.candidates", "retrain.init", "retrain.dense_baseline"}


class Training(NamedTuple):
    """One training from scratch."""

    arch: Arch
    seed: int  # counted from config.seed


def shortened(config: Config, updates: int) -> RetrainConfig:
    """The settings of a training from scratch: those of the stage retrain, with the warm-up in
    proportion if `updates` is another number than theirs; 0: theirs.
    """
    train = config.retrain
    if not updates:
        return train
    warmup = round(train.warmup_steps * updates / train.steps)
    return dataclasses.replace(train, steps=updates, warmup_steps=warmup)


def trained_losses(
    config: Config, workdir: Workdir, folder: epath.Path, archs: Sequence[Arch], seeds: int
) -> list[list[float]]:
    """[networks][seeds] validation losses, in nats per token, of networks trained from scratch.

    Those in the file of `folder` are read, all others trained and added to it; an interrupted
    training continues. Raises `UserError` for a folder of other settings or a damaged file.
    """
    _check_settings(config, folder)
    path = folder / "trained.jsonl"
    known = dict(_read(path))
    wanted = [Training(arch, seed) for seed in range(seeds) for arch in archs]
    for number, training in enumerate(wanted):
        own = folder / "training" / str(number % len(archs)) / str(training.seed)
        if training not in known:
            title = f"network {number + 1} of {len(wanted)}"
            known[training] = _trained(config, workdir, own, title, training)
            line = {"arch": training.arch.to_dict(), "seed": training.seed}
            append_line(path, json.dumps(line | {"loss": known[training]}).encode())
        if own.exists():
            own.rmtree()
    return [[known[Training(arch, seed)] for seed in range(seeds)] for arch in archs]


def inherited_losses(config: Config, workdir: Workdir, archs: Sequence[Arch]) -> list[float]:
    """Validation losses with the SuperNet's weights, as a search scores its candidates, in nats per
    token.
    """
    supernet = runs.load(workdir.supernet, workdir.spec(config))
    whole = dataclasses.replace(config, search=dataclasses.replace(config.search, stop_early=0.0))
    score = inherited_loss(supernet, whole, workdir.tokens("validation"))
    return [one.loss for one in score([Trial(arch) for arch in archs])]


def _trained(
    config: Config, workdir: Workdir, folder: epath.Path, title: str, training: Training
) -> float:
    """Validation loss of one network, which is trained as a part of a SuperNet of its own: one
    compilation for all networks.
    """
    seed = config.seed + training.seed
    spec = workdir.spec(config, training.arch)
    run = Run(
        title=title,
        folder=folder,
        train=config.retrain,
        forward_options=training_options(config),
        seed=seed,
        archs=lambda _: [training.arch],
        probes={"": training.arch},
        placement=placement(config),
    )

    def start() -> Network:
        return insert(initialised(spec, jax.random.key(seed)))

    tokens = workdir.tokens("train"), workdir.tokens("validation")
    return runs.complete(run, start, config.data, *tokens).validation_nll


def _check_settings(config: Config, folder: epath.Path) -> None:
    """Records the settings that a training from scratch depends on; raises `UserError` if the
    folder has other ones.
    """
    path, settings = folder / "settings.json", _relevant(config)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
        return
    recorded = completed(read_json(path, dict))
    for name, value in settings.items():
        if recorded[name] != value:
            raise UserError(
                f"the networks in {folder} were trained with {name}={recorded[name]!r}, and now"
                f" it is {value!r}; move that folder away, or restore the setting"
            )


def _relevant(config: Config) -> dict[str, Any]:
    settings = settings_of(config)
    return {
        name: value
        for name, value in settings.items()
        if name.startswith(_GROUPS) and name not in FREE | _OTHERS
    }


def _read(path: epath.Path) -> Iterator[tuple[Training, float]]:
    for number, line in enumerate(read_lines(path), 1):
        try:
            record = json.loads(line)
            arch = Arch.from_dict(record["arch"])
            yield Training(arch, int(record["seed"])), float(record["loss"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}, holds no trained network ({error}); remove that line"
            ) from None
