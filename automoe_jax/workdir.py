"""A run's folder: what lies where, which stages are finished, and which configuration it belongs to.

Stages talk through these files only. Every file is written atomically, so what is there is complete.
"""

import dataclasses
import json
import os
from typing import Any

import jax
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import Config, flatten
from automoe_jax.data.batching import TokenPairs
from automoe_jax.data.files import atomic_writer
from automoe_jax.data.tokenizer import Tokenizer
from automoe_jax.errors import UserError

SPLITS = ("train", "validation", "test")
# What another run of the same experiment may change.
_FREE = {"stages", "mesh.data", "mesh.expert", "mesh.model", "fsdp"}


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths of a run, and readers of what the stages left there."""

    root: epath.Path

    @property
    def tokenizer_path(self) -> epath.Path:
        return self.root / "data" / "tokenizer.model"

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
    def arch_path(self) -> epath.Path:
        return self.root / "arch.json"

    @property
    def retrained(self) -> epath.Path:
        return self.root / "retrain" / "subtransformer"

    @property
    def dense(self) -> epath.Path:
        return self.root / "retrain" / "dense"

    @property
    def evaluate(self) -> epath.Path:
        return self.root / "evaluate"

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
        return TokenPairs.load(self.tokens_path(split))

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of both languages."""
        return Tokenizer(self.tokenizer_path)

    def arch(self) -> Arch:
        """The architecture that the search found."""
        return Arch.from_json(self.arch_path.read_text())

    def is_done(self, stage: str) -> bool:
        """Whether a stage has finished."""
        return self._done_path(stage).exists()

    def mark_done(self, stage: str, seconds: float) -> None:
        """Records that a stage has finished, and how long its last, uninterrupted part took."""
        write_json(self._done_path(stage), {"seconds": round(seconds, 1)})

    def seconds(self, stage: str) -> float | None:
        """What `mark_done` recorded."""
        return read_json(self._done_path(stage))["seconds"] if self.is_done(stage) else None

    def _done_path(self, stage: str) -> epath.Path:
        return self.root / "stages" / f"{stage}.json"


def open_workdir(root: epath.PathLike, config: Config) -> Workdir:
    """The workdir at `root`, made if it is not there.

    Raises `UserError` when `root` is a file, or holds a run of another configuration, and says what differs.
    """
    path = absolute(root)
    if path.exists() and not path.is_dir():
        raise UserError(f"--workdir={root} is a file; name a folder, which is made if it does not exist")
    settings = json.loads(json.dumps(flatten(dataclasses.asdict(config))))
    recorded = path / "config.json"
    if recorded.exists():
        before = read_json(recorded)
        differing = [name for name in sorted(before | settings) if name not in _FREE and before.get(name) != settings.get(name)]
        if differing:
            first = "; ".join(f"{name} is {before.get(name)!r} there and {settings.get(name)!r} here" for name in differing[:3])
            more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
            raise UserError(
                f"--workdir={root} belongs to a run of another configuration: {first}{more}; name another --workdir or the same settings"
            )
    else:
        write_json(recorded, settings)
    return Workdir(path)


def keep_compilations(workdir: Workdir) -> None:
    """Keeps compiled programs in the workdir, so that a run that continues starts at once; JAX's own setting has precedence."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(workdir.compilation_cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def absolute(root: epath.PathLike) -> epath.Path:
    """The path from the file system's root, which Orbax insists on; a bucket's URL stays as it is."""
    path = epath.Path(root)
    return path if "://" in str(root) else path.expanduser().resolve()


def write_json(path: epath.Path, value: Any) -> None:
    """Writes a JSON file, complete or not at all."""
    with atomic_writer(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode())


def read_json(path: epath.Path) -> Any:
    """What `write_json` wrote; raises `UserError` for a file that is damaged."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it and run the stage that writes it again") from None
