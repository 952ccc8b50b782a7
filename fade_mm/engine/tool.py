"""What every command-line tool does before and after its own work."""

import gc
import sys
from collections.abc import Callable

from torch import distributed

from .checkpoint import use_safe_checkpoints
from .errors import SetupError


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main``; exit with its code, if not 0, or with a `SetupError`'s message.

    Checkpoints are read as data alone. Processes that ``main`` has joined are left when its work is
    done.
    """
    use_safe_checkpoints()
    try:
        code = main()
    except SetupError as error:
        # An error in a data loader's process arrives inside of that process's stack trace.
        message = str(error).rsplit('SetupError: ', 1)[-1].strip()
        sys.exit(f'error: {message}')
    if distributed.is_available() and distributed.is_initialized():
        # Threads of the group that still run while Python ends abort the process. They end with the
        # group, which a model that is only waiting to be collected keeps alive.
        gc.collect()
        distributed.destroy_process_group()
    if code:
        sys.exit(code)
