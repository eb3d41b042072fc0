"""`python -m automoe_jax.plan`."""

import sys

from automoe_jax.command.run import run_for_people


def _main() -> int:
    from automoe_jax.plan.command import run  # imports JAX, which takes seconds

    return run(sys.argv)


if __name__ == "__main__":
    sys.exit(run_for_people(_main))
