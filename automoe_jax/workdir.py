"""The folder of a run: paths, finished stages, and the configuration.

Stages communicate through these files only. Every file is written atomically, so existing files are
complete.
"""

import dataclasses
import json
import os
from collections.abc import Collection, Sequence
from typing import Any

import jax
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import STAGES, Config, from_flat
from automoe_jax.data.batching import TokenPairs
from automoe_jax.data.labels import Labels
from automoe_jax.data.tokenizer import SeparateTokenizers, Tokenizer
from automoe_jax.dependencies import FREE, TABLE, completed, outdated, settings_of
from automoe_jax.errors import UserError
from automoe_jax.model.network import Spec, spec_of
from automoe_jax.names import ARCH_FILE, CONFIG_FILE, RETRAINED_FOLDER
from automoe_jax.runtime.files import absolute, is_local, read_json, readable, write_json
from automoe_jax.runtime.processes import gathered

_SET_ASIDE = "set_aside"
# Linux opens paths of at most 4095 bytes; those of checkpoints in a workdir take up to 300 more.
_LONGEST_PATH = 3700


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths of a run, and readers of the stages' files."""

    root: epath.Path

    @property
    def config_path(self) -> epath.Path:
        return self.root / CONFIG_FILE

    @property
    def tokenizer_path(self) -> epath.Path:
        return self.root / "data" / "tokenizer.model"

    @property
    def shortlist_path(self) -> epath.Path:
        """Tables of `inference.engine.shortlist`, of a translator."""
        return self.root / "data" / "shortlist.npz"

    @property
    def target_tokenizer_path(self) -> epath.Path:
        """The target's tokenizer where vocabularies are separate."""
        return self.root / "data" / "target_tokenizer.model"

    @property
    def labels_path(self) -> epath.Path:
        return self.root / "data" / "labels.json"

    @property
    def cleaning_path(self) -> epath.Path:
        """What the rules of cleaning left out, with examples: a list of `data.rules.Removal`."""
        return self.root / "data" / "cleaning.json"

    @property
    def statistics_path(self) -> epath.Path:
        return self.root / "data" / "statistics.json"

    @property
    def supernet(self) -> epath.Path:
        return self.root / "supernet"

    @property
    def candidates_path(self) -> epath.Path:
        return self.root / "search" / "candidates.jsonl"

    @property
    def pareto_path(self) -> epath.Path:
        return self.root / "search" / "pareto.json"

    @property
    def hypervolume_path(self) -> epath.Path:
        """The quality of the Pareto front after each generation."""
        return self.root / "search" / "hypervolume.json"

    @property
    def finalists_path(self) -> epath.Path:
        """The candidates whose latency the search measured."""
        return self.root / "search" / "finalists.json"

    @property
    def arch_path(self) -> epath.Path:
        return self.root / ARCH_FILE

    @property
    def rival_candidates_path(self) -> epath.Path:
        """The candidates of the search among dense architectures."""
        return self.root / "search" / "dense_candidates.jsonl"

    @property
    def rival_finalists_path(self) -> epath.Path:
        """Those of them whose latency the search measured."""
        return self.root / "search" / "dense_finalists.json"

    @property
    def rival_arch_path(self) -> epath.Path:
        """The best dense architecture within the limits of the search."""
        return self.root / "search" / "dense_arch.json"

    @property
    def chosen_arch_path(self) -> epath.Path:
        """The architecture that `config.retrain.arch` selects instead of the search's result."""
        return self.root / "retrain" / ARCH_FILE

    @property
    def contenders_path(self) -> epath.Path:
        """The architectures of `config.retrain.candidates` with their validation scores."""
        return self.root / "retrain" / "candidates.json"

    def contender(self, index: int) -> epath.Path:
        """The training run of one of them, until it is chosen."""
        return self.root / "retrain" / "candidates" / str(index + 1)

    @property
    def retrained(self) -> epath.Path:
        return self.root / RETRAINED_FOLDER

    @property
    def dense(self) -> epath.Path:
        return self.root / "retrain" / "dense"

    @property
    def rival(self) -> epath.Path:
        return self.root / "retrain" / "rival"

    @property
    def evaluate(self) -> epath.Path:
        return self.root / "evaluate"

    @property
    def results_path(self) -> epath.Path:
        return self.evaluate / "results.json"

    @property
    def compilation_cache(self) -> epath.Path:
        return self.root / "compilation_cache"

    def tokens_path(self, split: str) -> epath.Path:
        """The token ids of a split."""
        return self.root / "data" / f"{split}.npz"

    def text_path(self, split: str) -> epath.Path:
        """The text of a split: a JSON object with the lists "source" and "target"."""
        return self.root / "data" / f"{split}.json"

    def tokens(self, split: str) -> TokenPairs:
        """The token ids of a split."""
        path = self.tokens_path(split)
        with readable(path):
            return TokenPairs.load(path)

    def tokenizer(self) -> Tokenizer | SeparateTokenizers:
        """The tokenizer of both languages, or the two of a run with separate vocabularies."""
        if self.target_tokenizer_path.exists():
            target = _tokenizer(self.target_tokenizer_path)
            return SeparateTokenizers(_tokenizer(self.tokenizer_path), target)
        return _tokenizer(self.tokenizer_path)

    def labels(self) -> Labels:
        """The classes of the task "classify"."""
        return Labels(tuple(read_json(self.labels_path, list)))

    def config(self) -> Config:
        """The configuration that the run was made with."""
        with readable(self.config_path):
            return from_flat(read_json(self.config_path))

    def spec(self, config: Config, arch: Arch | None = None) -> Spec:
        """Spec of the network for the prepared text: the SuperNet, or its sub-Transformer
        `arch`.
        """
        classes = self.labels().size if config.task == "classify" else 0
        tokenizer = self.tokenizer()
        if not config.data.joint_vocabulary and not self.target_tokenizer_path.exists():
            raise UserError(
                f"{self.target_tokenizer_path} is missing; run the same command again with"
                " automoe_jax.main, which writes it"
            )
        return spec_of(
            config,
            tokenizer.vocab_size,
            arch=arch,
            classes=classes,
            target_vocab_size=tokenizer.target_vocab_size,
        )

    def arch(self) -> Arch:
        """The architecture that is retrained: the search's result, or the one chosen instead."""
        path = self.chosen_arch_path if self.chosen_arch_path.exists() else self.arch_path
        with readable(path):
            return Arch.from_json(path.read_text())

    def rival_arch(self) -> Arch:
        """The best dense architecture within the limits of the search."""
        with readable(self.rival_arch_path):
            return Arch.from_json(self.rival_arch_path.read_text())

    def is_done(self, stage: str) -> bool:
        """Whether a stage has finished."""
        return self.done_path(stage).exists()

    def mark_done(self, stage: str, seconds: float) -> None:
        """Records that a stage has finished, and the seconds of its last, uninterrupted part."""
        write_json(self.done_path(stage), {"seconds": round(seconds, 1)})

    def seconds(self, stage: str) -> float | None:
        """Seconds that `mark_done` recorded."""
        path = self.done_path(stage)
        with readable(path):
            return read_json(path)["seconds"] if self.is_done(stage) else None

    def has_begun(self, stage: str) -> bool:
        """Whether a stage has finished, or an interrupted run of it would be continued."""
        return self.is_done(stage) or any(
            _has_contents(self.root / name) for name in TABLE[stage].progress
        )

    def set_aside(self, stages: Sequence[str]) -> epath.Path:
        """Moves the results of these stages to a new folder of the workdir, which is returned.

        An interruption in between leaves no stage that counts as finished without its results or
        before one that it depends on.
        """
        folder = self.root / _SET_ASIDE
        number = 1
        while (folder / str(number)).exists():
            number += 1
        folder = folder / str(number)
        for stage in sorted(stages, key=STAGES.index, reverse=True):
            for path in (self.done_path(stage), *map(self.root.joinpath, TABLE[stage].results)):
                if path.exists():
                    target = folder / path.relative_to(self.root)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(target)
        return folder

    def done_path(self, stage: str) -> epath.Path:
        """File that marks a stage as finished."""
        return self.root / "stages" / f"{stage}.json"


def make_folder(root: epath.PathLike) -> epath.Path:
    """The folder of a workdir, created if absent; raises `UserError` if that fails."""
    path = absolute(root)
    if is_local(path) and len(os.fsencode(path)) > _LONGEST_PATH:
        raise UserError(
            f"--workdir={root} is too long ({len(os.fsencode(path))} bytes) for the names of the"
            f" files in it; name one of at most {_LONGEST_PATH} bytes"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(one for one in (path, *path.parents) if one.exists())
        where = (
            f"--workdir={root} is" if file == path else f"--workdir={root} is in {file}, which is"
        )
        raise UserError(
            f"{where} a file; name a folder, which is made if it does not exist"
        ) from None
    except OSError as error:
        raise UserError(
            f"--workdir={root} cannot be made ({error.strerror}); name a folder in which you may"
            " write"
        ) from None
    return path


def open_workdir(
    root: epath.PathLike, config: Config, made: bool = False, redo: bool = False
) -> Workdir:
    """The workdir at `root`, created if absent; `made`: it must exist, because another process has
    created it.

    Settings may change as long as no stage with results depends on them. `redo`: the results of
    those that do are set aside, so that these stages run again. Raises `UserError` when `root` is a
    file or, without `redo`, when such stages have results, and says what differs.
    """
    workdir = Workdir(absolute(root) if made else make_folder(root))
    settings = settings_of(config)
    if workdir.config_path.exists():
        _adopt(workdir, settings, f"--workdir={root}", redo)
    elif made:
        raise UserError(
            f"--workdir={root} is another folder here than in process 0; name one on a file system"
            " that all processes share"
        )
    else:
        write_json(workdir.config_path, settings)
    return workdir


def _adopt(workdir: Workdir, settings: dict[str, Any], name: str, redo: bool) -> None:
    """Makes these the settings of a workdir that has some already, as `open_workdir` describes."""
    recorded = recorded_settings(workdir.config_path)
    changed = _changed(recorded, settings)
    begun = [stage for stage in STAGES if workdir.has_begun(stage)]
    stages = outdated(changed, begun, settings)
    if stages:
        differing = difference(recorded, settings, ("there", "here"), FREE)
        again = " and ".join(filter(None, (", ".join(stages[:-1]), stages[-1])))
        if not redo:
            raise UserError(
                f"{name} belongs to a run of another configuration: {differing}; add --redo to run"
                f" {again} again, which sets their results aside, or name another --workdir or the"
                " same settings"
            )
        folder = workdir.set_aside(stages)
        print(f"redo: {differing}; {again} will run again, old results are in {folder}", flush=True)
    elif differing := difference(recorded, settings, ("so far", "from now on"), FREE):
        print(f"settings: {differing}; no stage with results depends on them", flush=True)
    if changed:
        write_json(workdir.config_path, settings)


def check_same_everywhere(config: Config) -> None:
    """Raises `UserError` in every process, and says what differs, unless all of them have the same
    configuration.
    """
    first, *others = (json.loads(text) for text in gathered(json.dumps(settings_of(config))))
    for number, other in enumerate(others, start=1):
        if differing := difference(first, other, ("in process 0", f"in process {number}")):
            raise UserError(
                f"the processes have different configurations: {differing}; start all of them with"
                " the same flags"
            )


def keep_compilations(workdir: Workdir) -> None:
    """Caches compiled programs in the workdir, so that a resumed run starts at once; JAX's own
    setting has precedence.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(workdir.compilation_cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        # XLA's own caches put their path into the programs' keys: a workdir that is moved or copied
        # would compile again.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def recorded_settings(path: epath.Path) -> dict[str, Any]:
    """The flat settings in a workdir's `config.json`, as `completed`."""
    return completed(read_json(path, dict))


def _tokenizer(path: epath.Path) -> Tokenizer:
    with readable(path):
        tokenizer = Tokenizer(path)
        if not tokenizer.vocab_size:
            raise ValueError("it holds no pieces")
        return tokenizer


def _has_contents(path: epath.Path) -> bool:
    """Whether the path is a file or a folder that is not empty."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _changed(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the settings that differ, in alphabetical order."""
    return [name for name in sorted(one | other) if one.get(name) != other.get(name)]


def difference(
    one: dict[str, Any], other: dict[str, Any], where: tuple[str, str], free: Collection[str] = ()
) -> str:
    """The first settings that differ, except those in `free`, with both values; empty if none
    differ.
    """
    names = [name for name in _changed(one, other) if name not in free]
    first = "; ".join(
        f"{name} is {one.get(name)!r} {where[0]} and {other.get(name)!r} {where[1]}"
        for name in names[:3]
    )
    return first + (f" (and {len(names) - 3} more)" if len(names) > 3 else "")
