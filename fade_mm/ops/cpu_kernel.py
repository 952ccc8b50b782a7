"""The CPU kernel: softmax, reassembly and gate in one pass of vectorised C++, in ``csrc/``."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .checks import kernel_size_of
from .reference import empty_output

try:
    import fade_mm.ops._cpu as _cpu
except ImportError as error:
    _cpu, _import_error = None, str(error)

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def is_built() -> bool:
    """Whether fade_mm was installed with this backend."""
    return _cpu is not None


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
    return _cpu.instruction_sets() if is_built() else []


@contextmanager
def use_instruction_set(name: str) -> Iterator[None]:
    """Within, compute with one of `instruction_sets` instead of the best; for tests."""
    _cpu.use_instruction_set(name)
    try:
        yield
    finally:
        _cpu.use_instruction_set(instruction_sets()[0])


def is_intel() -> bool:
    """Whether this machine's processor is known to be Intel's."""
    return is_built() and _cpu.is_intel()


def forward(
    de: Tensor,
    logits: Tensor,
    logits_de: Tensor | None,
    gate: Tensor | None,
    en: Tensor | None,
    scale_factor: int,
    softmax: bool,
) -> Tensor:
    """As `reference.forward`."""
    out = empty_output(de, logits)
    options = _options(de, logits, scale_factor, softmax)
    _cpu.forward(out, de, logits, logits_de, gate, en, *options)
    return out


def backward(
    grad: Tensor,
    de: Tensor,
    logits: Tensor,
    logits_de: Tensor | None,
    gate: Tensor | None,
    en: Tensor | None,
    scale_factor: int,
    softmax: bool,
) -> list[Tensor]:
    """As `reference.backward`."""
    given = (de, logits, logits_de, gate, en)
    grads = [torch.empty_like(x) for x in given if x is not None]
    _cpu.backward(grads, grad, *given, *_options(de, logits, scale_factor, softmax))
    return grads


def _options(de: Tensor, logits: Tensor, scale_factor: int, softmax: bool) -> tuple:
    step = 1 if de.shape[2:] == logits.shape[2:] else scale_factor
    return kernel_size_of('logits', logits), step, softmax
