"""From a configuration to a translator: `python -m automoe_jax.main --config=configs/demo.py
--workdir=runs/demo`.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from automoe_jax.config import Config, from_config_dict
from automoe_jax.errors import UserError, run_for_people
from automoe_jax.registry import make_folder_importable
from automoe_jax.runtime.files import absolute
from automoe_jax.runtime.interruption import Interrupted
from automoe_jax.runtime.lock import locked
from automoe_jax.runtime.processes import explaining_loss, first_alone, join, leave, membership
from automoe_jax.stages import run_stages
from automoe_jax.workdir import check_same_everywhere, keep_compilations, make_folder, open_workdir

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a file with get_config(), such as configs/demo.py."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where everything is kept; runs/NAME of the configuration file by default."
)
_REDO = flags.DEFINE_boolean(
    "redo",
    False,
    "Run stages again whose results depend on settings that have changed; their old results move to"
    " WORKDIR/set_aside.",
)
_DISTRIBUTED = flags.DEFINE_boolean(
    "distributed",
    False,
    "One of several processes, which JAX finds: on TPU, under Slurm, on Kubernetes.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "One of several processes, which meet at this HOST:PORT of process 0."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes meet at --coordinator.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this one is, from 0.")


def parse(argv: list[str]) -> tuple[Config, str]:
    """The configuration and workdir of a command line; raises `UserError` for what is wrong with
    it.
    """
    path = _config_path(argv)
    if path and not pathlib.Path(path.partition(":")[0]).is_file():
        raise UserError(f"--config={path} is not a file; name one such as configs/demo.py")
    make_folder_importable(path)
    try:
        flags.FLAGS(argv)
    except (flags.Error, TypeError) as error:
        raise _mistake_in_file(error) or UserError(str(error)) from None
    except (AttributeError, KeyError) as error:  # an override of a setting that is not there
        said = str(error).replace("\\n", " ").replace("KeyError(", "").strip("()\"'")
        raise UserError(f"{' '.join(said.split())} (in a --config override)") from None
    if _CONFIG.value is None:
        raise UserError(
            "--config is missing; name a configuration file, such as --config=configs/demo.py"
        )
    file, _, argument = path.partition(":")
    name = "-".join(filter(None, [pathlib.Path(file).stem, argument]))
    return from_config_dict(_CONFIG.value), _WORKDIR.value or f"runs/{name}"


def run(argv: list[str]) -> int:
    """Runs the stages; returns the exit code."""
    config, root = parse(argv)
    if member := membership(
        _DISTRIBUTED.value, _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    ):
        join(member)
    with explaining_loss():
        check_same_everywhere(config)
        first_alone(lambda: make_folder(root))
        with locked(absolute(root)):
            first_alone(lambda: open_workdir(root, config, redo=_REDO.value))
            workdir = open_workdir(root, config, made=True)
            keep_compilations(workdir)
            try:
                run_stages(config, workdir)
            except Interrupted as stopped:
                print(stopped, file=sys.stderr)
                return stopped.exit_code
    return 0


def _mistake_in_file(error: BaseException | None) -> UserError | None:
    """The `UserError` that a configuration file raised, which absl wraps with its traceback."""
    innermost = None
    while error is not None:
        innermost = error if isinstance(error, UserError) else innermost
        error = error.__cause__ or error.__context__
    return innermost


def _config_path(argv: list[str]) -> str:
    """The value of --config, however it is written."""
    for flag, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = flag.lstrip("-").partition("=")
        if flag.startswith("-") and name == "config":
            return value if equals else following
    return ""


if __name__ == "__main__":
    leave(run_for_people(lambda: run(sys.argv)))
