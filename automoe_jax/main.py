"""Runs the stages of a configuration: `python -m automoe_jax.main --config=configs/demo.py
--workdir=runs/demo`.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from automoe_jax.command import configuration
from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.config import Config
from automoe_jax.errors import UserError
from automoe_jax.runtime.memory import keep_freed_memory


def parse(argv: Sequence[str]) -> tuple[Config, str]:
    """The configuration and workdir of a command line, whose first word is the program; raises
    `UserError` for a mistake in it.
    """
    config, flags = configuration.parse(_parser(), argv[1:])
    return config, _workdir(flags)


def run(argv: Sequence[str]) -> int:
    """Runs the stages; returns the exit code."""
    config, flags = configuration.parse(_parser(), argv[1:])
    keep_freed_memory()
    # JAX is imported here, so that help and mistakes are answered at once.
    from automoe_jax.runtime.files import absolute
    from automoe_jax.runtime.interruption import Interrupted
    from automoe_jax.runtime.lock import locked
    from automoe_jax.runtime.processes import explaining_loss, first_alone, join, membership
    from automoe_jax.stages import run_stages
    from automoe_jax.workdir import (
        check_same_everywhere,
        keep_compilations,
        make_folder,
        open_workdir,
    )

    root = _workdir(flags)
    if member := membership(flags.distributed, flags.coordinator, flags.processes, flags.process):
        join(member)
    with explaining_loss():
        check_same_everywhere(config)
        first_alone(lambda: make_folder(root))
        with locked(absolute(root)):
            first_alone(lambda: open_workdir(root, config, redo=flags.redo))
            workdir = open_workdir(root, config, made=True)
            keep_compilations(workdir)
            try:
                run_stages(config, workdir)
            except Interrupted as stopped:
                print(stopped, file=sys.stderr)
                return stopped.exit_code
    return 0


def add_flags(parser: Parser) -> None:
    """Adds the flags of this command other than --config."""
    parser.add_argument(
        "--workdir", help="folder of the run; runs/NAME of the configuration file by default"
    )
    parser.add_switch(
        "redo",
        "run stages again whose results depend on settings that have changed; their old results"
        " move to WORKDIR/set_aside",
    )
    parser.add_switch(
        "distributed",
        "one of several processes, which JAX finds: on TPU, under Slurm, on Kubernetes",
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="one of several processes, which meet at this address of process 0",
    )
    parser.add_argument("--processes", type=int, help="number of processes that meet there")
    parser.add_argument("--process", type=int, help="number of this process, from 0")


def _parser() -> Parser:
    parser = configuration.config_parser(
        "automoe_jax.main",
        "Prepare text, train a SuperNet, search, retrain, evaluate and report.",
    )
    add_flags(parser)
    return parser


def _workdir(flags: Any) -> str:
    if flags.workdir == "":
        raise UserError("--workdir= is empty; name a folder, or leave the flag out")
    file = configuration.ConfigFile.parse(flags.config)
    name = "-".join(filter(None, [pathlib.Path(file.path).stem, file.argument]))
    return flags.workdir or f"runs/{name}"


def _run_and_leave() -> None:
    code = run_for_people(lambda: run(sys.argv), resumes=True)
    if "jax" in sys.modules:  # ends the other processes too
        from automoe_jax.runtime.processes import leave

        leave(code)
    sys.exit(code)


if __name__ == "__main__":
    _run_and_leave()
