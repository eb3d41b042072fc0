"""Several trained architectures, of which the best is used: `config.retrain.candidates`.

AutoMoE trains the two best architectures of its search from scratch and reports the better one
(arXiv 2210.07535, section 4). Here the trained ones are compared by BLEU, or accuracy, on the
validation text, and where a search limits the latency on this device those that exceed it once
trained come last. The file of contenders records them before they are trained, with their scores as
soon as they are known, and at last the choice, so an interrupted stage continues with the same
ones.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.evaluation.deployed import deployed_model
from automoe_jax.evaluation.networks import trained_network
from automoe_jax.evaluation.outputs import outputs
from automoe_jax.inference.scores import accuracy, score
from automoe_jax.latency.device import conditions_of
from automoe_jax.latency.search import (
    admitted_finalists,
    is_timed_here,
    largest_dense,
    timed,
)
from automoe_jax.latency.timing import Model
from automoe_jax.model.network import Network
from automoe_jax.names import SUMMARY_FILE
from automoe_jax.report.rows import Role
from automoe_jax.runtime.files import read_json, readable, write_json
from automoe_jax.runtime.processes import first_alone
from automoe_jax.search import history
from automoe_jax.search.candidate import Candidate
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Contender:
    """An architecture that is trained to be chosen."""

    arch: Arch
    score: float | None = None  # on the validation text; None until it is trained
    chosen: bool = False
    # trained, of one batch in the deployed engine; None where no latency of this device is limited
    milliseconds: float | None = None
    admitted: bool = True  # within the limits of latency when trained

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"arch": self.arch.to_dict()}

    @classmethod
    def from_json(cls, record: Any) -> "Contender":
        """Inverse of `to_json`."""
        return cls(**record | {"arch": Arch.from_dict(record["arch"])})


def load(workdir: Workdir) -> list[Contender]:
    """The recorded contenders; none if there is no file."""
    path = workdir.contenders_path
    if not path.exists():
        return []
    with readable(path):
        return [Contender.from_json(record) for record in read_json(path, list)]


def planned(config: Config, workdir: Workdir) -> list[Contender]:
    """The contenders: the result of the search, then the next best candidates within its limits.

    They are recorded, and read again where the stage was interrupted.
    """
    first_alone(functools.partial(_plan, config, workdir))
    return load(workdir)


def chosen(
    config: Config, workdir: Workdir, contenders: Sequence[Contender]
) -> tuple[int, list[Contender]]:
    """(index of the best contender, all with their scores): the one with the highest score.

    Translates the validation text with those whose score is not known, and records the choice. Of
    equal scores the first is chosen. Where a search limits the latency on this device, the trained
    contenders are timed, and those beyond the limit are chosen only if all are; then the fastest.
    """
    scored = list(contenders)
    for index, one in enumerate(scored):
        if one.score is None:
            reached = _score(config, workdir, index, one.arch)
            scored[index] = dataclasses.replace(one, score=reached)
            _save(workdir, scored)
    scored = _with_latencies(config, workdir, scored)
    within = [one for one in scored if one.admitted]
    one_chosen = (
        max(within, key=lambda one: one.score or 0.0)
        if within
        else min(scored, key=lambda one: one.milliseconds or 0.0)
    )
    best = scored.index(one_chosen)
    scored[best] = dataclasses.replace(scored[best], chosen=True)
    write_json(workdir.chosen_arch_path, scored[best].arch.to_dict())
    _save(workdir, scored)
    return best, scored


def install(workdir: Workdir, index: int) -> None:
    """Moves the training run of a contender to that of the retrained sub-Transformer; continues a
    move that was interrupted.
    """
    source, target = workdir.contender(index), workdir.retrained
    if not (source / SUMMARY_FILE).exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    # The summary makes a run complete, so it is the last.
    for path in sorted(source.iterdir(), key=lambda path: path.name == SUMMARY_FILE):
        _replace(path, target / path.name)
    source.rmtree()


def note(config: Config, workdir: Workdir) -> str:
    """As in 'chosen of 2 candidates by validation BLEU: 97.80 against 97.10'; '' for one."""
    contenders = load(workdir) if config.retrain.candidates > 1 else []
    if len(contenders) < 2:
        return ""
    best = next(one for one in contenders if one.chosen)
    others = ", ".join(f"{one.score:.2f}" for one in contenders if one is not best)
    measure = "accuracy" if config.task == "classify" else "BLEU"
    beyond = sum(not one.admitted for one in contenders)
    if beyond == len(contenders):
        return (
            f"the fastest of {beyond} trained candidates, which all exceed the limit of latency;"
            f" validation {measure} {best.score:.2f} against {others}"
        )
    others_beyond = f"; beyond the limit of latency once trained: {beyond}" if beyond else ""
    return (
        f"chosen of {len(contenders)} trained candidates by validation {measure}:"
        f" {best.score:.2f} against {others}{others_beyond}"
    )


def _plan(config: Config, workdir: Workdir) -> None:
    if workdir.contenders_path.exists() and workdir.has_begun("retrain"):
        return
    with readable(workdir.arch_path):
        first = Arch.from_json(workdir.arch_path.read_text())
    ranked = [one.arch for one in _ranked(config, workdir)]
    archs = [first, *(arch for arch in ranked if arch != first)][: config.retrain.candidates]
    if len(archs) < config.retrain.candidates:
        print(
            f"retrain: {len(archs)} candidates, since the search found no others within its limits",
            flush=True,
        )
    _save(workdir, [Contender(arch) for arch in archs])


def _ranked(config: Config, workdir: Workdir) -> list[Candidate]:
    """The best candidates of the search, by inherited loss; where latency on this device is
    limited, only those that meet the limit when measured again, which may be none.
    """
    admitted = history.load_within(workdir.candidates_path, config.search)
    candidates = [one for one in admitted if one.complete]
    if is_timed_here(config):
        wanted = config.retrain.candidates
        return admitted_finalists(config, workdir.spec(config), candidates, wanted)
    return sorted(candidates, key=lambda one: one.rank)


def _with_latencies(
    config: Config, workdir: Workdir, contenders: Sequence[Contender]
) -> list[Contender]:
    """The contenders with the latencies of their trained networks, if the search limits them."""
    if not is_timed_here(config):
        return list(contenders)
    conditions = conditions_of(config)
    models = [
        deployed_model(_network(config, workdir, index, one.arch), config, conditions)
        for index, one in enumerate(contenders)
    ]
    dense = _dense(config, workdir)
    return [
        dataclasses.replace(one, milliseconds=round(found.ms, 4), admitted=found.admitted)
        for one, found in zip(contenders, timed(config, dense, models), strict=True)
    ]


def _dense(config: Config, workdir: Workdir) -> Model:
    """The largest dense network, trained if this run trains it: as the contenders, it is then a few
    per cent slower than untrained.
    """
    if not config.retrain.dense_baseline:
        return largest_dense(config, workdir.spec(config))
    network = trained_network(config, workdir, Role.DENSE)
    return deployed_model(network, config, conditions_of(config))


def _network(config: Config, workdir: Workdir, index: int, arch: Arch) -> Network:
    return runs.load(workdir.contender(index), workdir.spec(config, arch))


def _score(config: Config, workdir: Workdir, index: int, arch: Arch) -> float:
    network = _network(config, workdir, index, arch)
    text = read_json(workdir.text_path("validation"))
    title = f"candidate {index + 1}, validation"
    lines, _ = outputs(config, workdir, title, network, text["source"], "validation")
    if config.task == "classify":
        return accuracy(lines, text["target"]).accuracy
    return score(lines, text["target"], config.data.target_language).bleu


def _save(workdir: Workdir, contenders: Sequence[Contender]) -> None:
    write_json(workdir.contenders_path, [one.to_json() for one in contenders])


def _replace(source: epath.Path, target: epath.Path) -> None:
    if target.exists():
        (target.rmtree if target.is_dir() else target.unlink)()
    source.rename(target)
