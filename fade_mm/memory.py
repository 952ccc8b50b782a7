"""Memory: what a step frees and takes again, how much that is, and how much there is."""

import ctypes
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

_GROUP = Path('/sys/fs/cgroup')
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


def peak_memory(function: Callable, device: str = 'cpu') -> int | None:
    """Bytes that a call takes at most, beyond what was there before and its results.

    Args:
        function: What is called; its results are tensors, in nested tuples, or nothing.
        device: Where it computes. Default: ``'cpu'``.

    Returns:
        The bytes, or ``None`` where they are not known: on a CPU, Linux alone says.
    """
    if torch.device(device).type == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results = function()
        return torch.cuda.max_memory_allocated() - before - _size_of(results)
    if platform.system() != 'Linux':
        return None
    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')  # forget the peak so far
    before = _resident('VmRSS')
    results = function()
    return max(0, _resident('VmHWM') - before - _size_of(results))


def _resident(field: str) -> int:
    """A field of this process's status, in bytes."""
    line = next(x for x in Path('/proc/self/status').read_text().splitlines() if field in x)
    return int(line.split()[1]) * 1024


def _size_of(results) -> int:
    """Bytes of all the tensors in nested tuples."""
    if isinstance(results, Tensor):
        return results.nbytes
    return sum(_size_of(x) for x in results or () if x is not None)


def available_memory(device: torch.device) -> int | None:
    """Bytes that can be taken on a device, ``None`` where that is not known.

    Args:
        device: The device. On a CPU, both what the system has and what it lets this group of
            processes have (a container's limit) count.
    """
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + kept
    if device.type != 'cpu':
        return None
    found = []
    with suppress(OSError, StopIteration):
        lines = Path('/proc/meminfo').read_text().splitlines()
        line = next(x for x in lines if x.startswith('MemAvailable:'))
        found.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):  # ValueError: 'max', no limit
        limit, used = (int((_GROUP / f'memory.{x}').read_text()) for x in ('max', 'current'))
        stat = dict(line.split() for line in (_GROUP / 'memory.stat').read_text().splitlines())
        found.append(limit - used + int(stat['file']))  # cached files make room
    return min(found, default=None)
