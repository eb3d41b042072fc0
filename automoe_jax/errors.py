"""The one exception a user's mistake raises: its message is a sentence for a person.

Command lines print the message and exit with code 1; a bug keeps its traceback.
"""

import errno
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Names the field, the value, the rule it breaks and the way out, in one sentence."""


def run_for_people(main: Callable[[], int | None]) -> int:
    """Runs `main` and returns the exit code; a user's mistake or a full disk becomes one line on stderr."""
    try:
        return main() or 0
    except UserError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        message = f"the disk is full{where}; free some space and run the same command again, it continues where it stopped"
    except KeyboardInterrupt:
        message = "interrupted; run the same command again, it continues where it stopped"
    print(f"error: {message}", file=sys.stderr)
    return 1
