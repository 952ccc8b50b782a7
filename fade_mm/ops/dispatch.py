"""Which of the backends computes a call: the fastest that can, or the one asked for."""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from torch import Tensor

from . import cpu_kernel, reference, triton_kernel

BACKENDS = {'cpu': cpu_kernel, 'triton': triton_kernel, 'reference': reference}
_ORDER = {'cpu': ('cpu', 'reference', 'triton')}  # Triton can only be interpreted there

_preferred: str | None = None


def backends(tensor: Tensor, *others: Tensor) -> dict[str, str | None]:
    """Each backend, the fastest first, and why it cannot compute with the tensors.

    Args:
        tensor, others: Arguments of `gated_reassemble`, in any order.

    Returns:
        The reason by backend, None where there is none. The first of these is the one that runs.
    """
    order = _ORDER.get(tensor.device.type, BACKENDS)
    return {name: BACKENDS[name].why_not(tensor, *others) for name in order}


def available_backends(*tensors: Tensor) -> list[str]:
    """Those that can compute with the tensors, the fastest first, down to plain PyTorch."""
    found = backends(*tensors)
    order = list(found)
    return [name for name in order[: order.index('reference') + 1] if found[name] is None]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within, every call runs on one backend, if the call itself does not ask for another.

    Args:
        name: A key of `backends`.

    Raises:
        ValueError: there is no such backend.
    """
    global _preferred
    check_backend(name)
    previous, _preferred = _preferred, name
    try:
        yield
    finally:
        _preferred = previous


def preferred_backend() -> str | None:
    """The backend of the innermost `use_backend`."""
    return _preferred


def check_backend(name: str | None) -> None:
    """Raise unless ``name`` is that of a backend, or None.

    Raises:
        ValueError: there is no such backend.
    """
    if name is not None and name not in BACKENDS:
        raise ValueError(f'there is no backend {name!r}, only {", ".join(BACKENDS)}')


def select(name: str | None, *tensors: Tensor | None) -> ModuleType:
    """The backend that computes with the tensors.

    Args:
        name: The one that must. Default: the first that can.
        tensors: Arguments of the operator; None where an argument is not given.

    Raises:
        RuntimeError: the one that must cannot.
    """
    given = [x for x in tensors if x is not None]
    if name is None:
        if given[0].device.type == 'cpu' and not cpu_kernel.is_built():
            _warn_once(cpu_kernel.why_not())
        return BACKENDS[available_backends(*given)[0]]
    reason = BACKENDS[name].why_not(*given)
    if reason:
        raise RuntimeError(f'backend {name!r} cannot compute this: {reason}')
    return BACKENDS[name]


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f'the CPU kernel is missing, and upsampling takes several times as long: {reason}',
        stacklevel=2,
    )
