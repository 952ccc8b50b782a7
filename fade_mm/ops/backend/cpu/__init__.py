"""The CPU kernel: softmax, reassembly and gate in one pass of vectorised C++, in ``csrc/``."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ...problem import Gradients, Problem

try:
    from . import _kernels  # after torch, whose threads it uses
except ImportError as error:
    _kernels, _import_error = None, str(error)

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
"""What it computes in, and the number of each in csrc/kernel.h."""


def is_built() -> bool:
    """Whether fade_mm was installed with this backend."""
    return _kernels is not None


def why_not(*tensors: Tensor) -> str | None:
    """Why this backend cannot compute with the tensors; None if it can."""
    if any(x.device.type != 'cpu' for x in tensors):
        return 'it computes on CPUs only'
    wrong = [str(x.dtype) for x in tensors if x.dtype not in DTYPES]
    if wrong:
        return f'it computes in float32, float64 and bfloat16, not in {wrong[0]}'
    if not is_built():
        return (
            f'fade_mm was installed without it ({_import_error}); where a C++ compiler is, '
            'reinstall with: pip install --no-deps --force-reinstall <the source of fade_mm>'
        )
    return None


def instruction_sets() -> list[str]:
    """Those with kernels of their own that this machine can run, the best first."""
    return _kernels.instruction_sets() if is_built() else []


@contextmanager
def use_instruction_set(name: str) -> Iterator[None]:
    """Within, compute with one of `instruction_sets` instead of the best; for tests."""
    _kernels.use_instruction_set(name)
    try:
        yield
    finally:
        _kernels.use_instruction_set(instruction_sets()[0])


def is_intel() -> bool:
    """Whether this machine's processor is known to be Intel's."""
    return is_built() and _kernels.is_intel()


def forward(problem: Problem) -> Tensor:
    """As `reference.forward`."""
    out = problem.empty_output()
    _kernels.forward(*_plain(problem), _view(out))
    return out


def backward(problem: Problem, grad: Tensor, needed: list[bool]) -> Gradients:
    """As `reference.backward`."""
    grads = problem.empty_gradients(needed)
    _kernels.backward(*_plain(problem), _view(grad), *map(_view, grads))
    return grads


def _plain(problem: Problem) -> tuple:
    """A problem, and how many threads may compute it, without tensors."""
    sizes = (
        *problem.de.shape,
        *problem.size,
        problem.kernel_size,
        problem.step,
        problem.softmax,
    )
    return torch.get_num_threads(), sizes, *map(_view, problem.tensors)


def _view(x: Tensor | None) -> tuple | None:
    """Where a tensor's values lie; it must be kept until they are read."""
    return None if x is None else (x.data_ptr(), DTYPES[x.dtype], x.stride())


def multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """A matrix times each of a batch of matrices: ``a @ b + bias[:, None]``.

    Args:
        a: ``(rows, depth)``, of any strides.
        b: ``(N, depth, *columns)``, contiguous; of the same dtype, float32 or float64.
        bias: ``(rows)``, contiguous. Default: none.

    Returns:
        ``(N, rows, *columns)``. Sums are taken in the order of the depth.
    """
    batch, depth, *columns = b.shape
    out = b.new_empty(batch, len(a), *columns)
    _kernels.multiply(
        torch.get_num_threads(),
        (batch, len(a), depth, math.prod(columns), *a.stride()),
        DTYPES[a.dtype],
        a.data_ptr(),
        b.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
    )
    return out


def correlate(a: Tensor, b: Tensor) -> Tensor:
    """The sum of ``a[i] @ b[i].T`` over a batch of matrices.

    Args:
        a: ``(N, rows, *points)``, contiguous.
        b: ``(N, columns, *points)``, contiguous; of the same dtype, float32 or float64.

    Returns:
        ``(rows, columns)``, the same from run to run with the same number of threads.
    """
    batch, rows, *points = a.shape
    out = a.new_empty(rows, b.shape[1])
    _kernels.correlate(
        torch.get_num_threads(),
        (batch, *out.shape, math.prod(points)),
        DTYPES[a.dtype],
        a.data_ptr(),
        b.data_ptr(),
        out.data_ptr(),
    )
    return out
