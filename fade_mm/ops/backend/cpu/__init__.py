"""The CPU kernel: softmax, reassembly and gate in one pass of vectorised C++, in ``csrc/``."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ...problem import Gradients, Problem

try:
    import fade_mm.ops.backend.cpu._kernel as _kernel
except ImportError as error:
    _kernel, _import_error = None, str(error)

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def is_built() -> bool:
    """Whether fade_mm was installed with this backend."""
    return _kernel is not None


def why_not(*tensors: Tensor) -> str | None:
    """Why this backend cannot compute with the tensors; None if it can."""
    if any(x.device.type != 'cpu' for x in tensors):
        return 'it computes on CPUs only'
    wrong = [str(x.dtype) for x in tensors if x.dtype not in _DTYPES]
    if wrong:
        return f'it computes in float32, float64 and bfloat16, not in {wrong[0]}'
    if not is_built():
        return (
            f'fade_mm was installed without it ({_import_error}); where torch and a C++ compiler '
            'are, reinstall with: pip install --no-build-isolation --no-deps '
            '--force-reinstall <the source of fade_mm>'
        )
    return None


def instruction_sets() -> list[str]:
    """Those with kernels of their own that this machine can run, the best first."""
    return _kernel.instruction_sets() if is_built() else []


@contextmanager
def use_instruction_set(name: str) -> Iterator[None]:
    """Within, compute with one of `instruction_sets` instead of the best; for tests."""
    _kernel.use_instruction_set(name)
    try:
        yield
    finally:
        _kernel.use_instruction_set(instruction_sets()[0])


def is_intel() -> bool:
    """Whether this machine's processor is known to be Intel's."""
    return is_built() and _kernel.is_intel()


def forward(problem: Problem) -> Tensor:
    """As `reference.forward`."""
    out = problem.empty_output()
    _kernel.forward(out, *problem.tensors, *_options(problem))
    return out


def backward(problem: Problem, grad: Tensor, needed: list[bool]) -> Gradients:
    """As `reference.backward`."""
    grads = problem.empty_gradients(needed)
    _kernel.backward(grads, grad, *problem.tensors, *_options(problem))
    return grads


def _options(problem: Problem) -> tuple[int, int, bool]:
    return problem.kernel_size, problem.step, problem.softmax
