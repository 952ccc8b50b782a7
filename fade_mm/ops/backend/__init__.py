"""Which of the backends computes a call: the fastest that can, or the one asked for."""

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
from torch import Tensor

from ..problem import Gradients, Problem
from . import cpu, reference, triton


class Backend(Protocol):
    """What a module in this folder defines; `reference` says what is to be computed."""

    def why_not(self, *tensors: Tensor) -> str | None:
        """Why this backend cannot compute with the tensors; None if it can."""

    def forward(self, problem: Problem) -> Tensor:
        """The output ``(N, C, h, w)``, in the dtype and the memory format of ``de``."""

    def backward(self, problem: Problem, grad: Tensor, needed: list[bool]) -> Gradients:
        """The gradients of the problem's tensors, in their order; None for those not needed."""


BACKENDS: dict[str, Backend] = {'cpu': cpu, 'triton': triton, 'reference': reference}
_ORDER = {'cpu': ('cpu', 'reference', 'triton')}  # Triton can only be interpreted there
_VARIABLE = 'FADE_MM_BACKEND'

_preferred: ContextVar[str | None] = ContextVar('backend', default=None)


def backends(tensor: Tensor, *others: Tensor) -> dict[str, str | None]:
    """Each backend, the fastest first, and why it cannot compute with the tensors.

    Args:
        tensor, others: Arguments of `gated_reassemble`, in any order.

    Returns:
        The reason by backend, None where there is none. The first of these is the one that runs,
        unless `use_backend` or the environment asks for another.

    Example:
        >>> import torch
        >>> from fade_mm.ops import backends
        >>> backends(torch.rand(1, 8, 4, 4))['reference'] is None
        True
    """
    order = _ORDER.get(tensor.device.type, BACKENDS)
    return {name: BACKENDS[name].why_not(tensor, *others) for name in order}


def available_backends(*tensors: Tensor) -> list[str]:
    """Those that can compute with the tensors, the fastest first, down to plain PyTorch."""
    found = backends(*tensors)
    order = list(found)
    return [name for name in order[: order.index('reference') + 1] if found[name] is None]


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Within, every call runs on one backend, if the call itself does not ask for another.

    It holds for its own thread or asynchronous task. The environment variable
    ``FADE_MM_BACKEND``, read at the first call, does the same for a whole program.

    Args:
        name: A key of `backends`; None changes nothing. Nor does any within a compiled function.

    Raises:
        ValueError: there is no such backend.

    Example:
        >>> import torch
        >>> from fade_mm.ops import reassemble, use_backend
        >>> with use_backend('reference'):
        ...     reassemble(torch.rand(1, 8, 4, 4), torch.rand(1, 25, 8, 8)).shape
        torch.Size([1, 8, 8, 8])
    """
    if name is None or torch.compiler.is_compiling():
        yield
        return
    check_backend(name)
    token = _preferred.set(name)
    try:
        yield
    finally:
        _preferred.reset(token)


def preferred_backend() -> str | None:
    """The backend of the innermost `use_backend`, or else of the environment."""
    return _preferred.get() or _of_environment()


def select(*tensors: Tensor) -> Backend:
    """The backend that computes with the tensors.

    Raises:
        ValueError: the environment names none.
        RuntimeError: the one that must cannot.
    """
    name = preferred_backend()
    if name is None:
        if tensors[0].device.type == 'cpu' and not cpu.is_built():
            _warn_once(cpu.why_not())
        return BACKENDS[available_backends(*tensors)[0]]
    reason = BACKENDS[name].why_not(*tensors)
    if reason:
        raise RuntimeError(f'backend {name!r} cannot compute this: {reason}')
    return BACKENDS[name]


def check_backend(name: str | None, where: str = '') -> None:
    """Raise unless ``name`` is that of a backend, or None.

    Args:
        name: The name.
        where: What the message starts with. Default: nothing.

    Raises:
        ValueError: there is no such backend.
    """
    if name is not None and name not in BACKENDS:
        raise ValueError(f'{where}there is no backend {name!r}, only {", ".join(BACKENDS)}')


@functools.cache
def _of_environment() -> str | None:
    name = os.environ.get(_VARIABLE)
    if name:
        check_backend(name, f'{_VARIABLE}: ')
    return name or None


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f'the CPU kernel is missing, and upsampling takes several times as long: {reason}',
        stacklevel=2,
    )
