"""Memory that a training step frees and takes again."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's numbers of them


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process, and with those that it starts by forking.

    By default glibc gives large blocks back at once, and the system clears every page anew when
    the next step takes them: on a CPU a third of a step and more. GPU allocators keep memory, too.

    Returns:
        Whether the C library is glibc, which can be told so.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_TRIM_THRESHOLD, -1) and libc.mallopt(_MMAP_MAX, 0))  # never, none
