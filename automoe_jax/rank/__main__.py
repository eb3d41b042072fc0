"""Rank correlation of a SuperNet: `python -m automoe_jax.rank --workdir=DIR --archs=16`."""

import sys

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.errors import UserError
from automoe_jax.runtime.memory import keep_freed_memory

LEAST = 4  # networks


def main() -> int:
    """Trains sampled networks from scratch and compares their losses with the SuperNet's."""
    parser = Parser(
        "automoe_jax.rank",
        "Rank correlation between the losses of networks with weights of the SuperNet and after"
        " training from scratch. An interrupted run continues.",
    )
    parser.add_argument("--workdir", required=True, help="folder of a run with a trained SuperNet")
    parser.add_argument(
        "--archs",
        type=int,
        default=16,
        help="networks to train from scratch, half of them with equal FLOPs (default: 16)",
    )
    parser.add_argument(
        "--updates",
        type=int,
        default=0,
        help="updates of each training (default: config.retrain.steps of the run)",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings of each network (default: 1)"
    )
    flags = parser.parse()
    if flags.archs < LEAST:
        raise UserError(f"--archs={flags.archs} must be at least {LEAST}")
    if flags.seeds < 1:
        raise UserError(f"--seeds={flags.seeds} must be positive")
    if flags.updates < 0:
        raise UserError(f"--updates={flags.updates} must be positive, or 0 for those of the run")
    keep_freed_memory()
    from automoe_jax.rank.command import rank  # imports JAX, which takes seconds

    return rank(flags.workdir, flags.archs, flags.updates, flags.seeds)


if __name__ == "__main__":
    sys.exit(run_for_people(main, resumes=True))
