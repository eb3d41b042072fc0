"""`python -m automoe_jax.compare`."""

import sys

from automoe_jax.compare.command import main
from automoe_jax.errors import run_for_people

if __name__ == "__main__":
    sys.exit(run_for_people(main))
