"""`python -m automoe_jax.compare`."""

import sys

from automoe_jax.command.run import run_for_people


def _main() -> int:
    from automoe_jax.compare.command import main  # imports JAX, which takes seconds

    return main()


if __name__ == "__main__":
    sys.exit(run_for_people(_main, resumes=True))
