"""What every command-line tool does before and after its own work."""

import sys
from collections.abc import Callable

from torch import distributed

from .checkpoint import use_safe_checkpoints
from .errors import SetupError


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main``; exit with its code, if not 0, or with a `SetupError`'s message.

    Checkpoints are read as data alone. Where ``main`` has joined other processes, it leaves them
    when its work is done: a process that ends with its connections open may be aborted by them.
    """
    use_safe_checkpoints()
    try:
        code = main()
    except SetupError as error:
        # An error in a data loader's process arrives inside of that process's stack trace.
        message = str(error).rsplit('SetupError: ', 1)[-1].strip()
        sys.exit(f'error: {message}')
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
    if code:
        sys.exit(code)
