"""`python -m automoe_jax.plan`."""

import sys

from automoe_jax.errors import run_for_people
from automoe_jax.plan.command import run

if __name__ == "__main__":
    sys.exit(run_for_people(lambda: run(sys.argv)))
