"""The operator on a GPU, in Triton: one kernel forward, three backward.

The forward reads everything once and writes the output. The backward recomputes the softmax. All
sums are gathered, so without atomics; tiles come from a table (`tiles.py`), so results are the same
bit for bit from run to run.

- `device/geometry.py`: where a thread reads and writes
- `device/kernels.py`: the softmax, and where kernels are kept
- `device/forward.py`, `device/backward.py`: what the GPU runs
- `launch.py`: from a problem to calls of these
- `tiles.py`: the table of tiles
- `report.py`: what the compiler makes of the kernels, for which no GPU is needed

With ``TRITON_INTERPRET=1`` in the environment, set before this module is used, Triton interprets
the kernels instead: slow, but on tensors anywhere, which is how they are tested.
"""

import functools
import os

import torch
from torch import Tensor

from ...problem import Gradients, Problem
from . import launch, tiles

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def why_not(*tensors: Tensor | None) -> str | None:
    """Why this backend cannot run on ``tensors``, None where it can."""
    given = [x for x in tensors if x is not None]
    for x in given:
        if x.dtype not in _DTYPES:
            return f'it has no kernel for {x.dtype}'
    if not _is_interpreted():
        device = given[0].device
        if device.type != 'cuda':
            return f'the tensors are on {device.type}, and TRITON_INTERPRET=1 is not set'
        if torch.version.cuda and torch.cuda.get_device_capability(device) < (8, 0):
            return 'Triton needs a GPU of compute capability 8.0 or higher'
    kernels = device_kernels()
    return kernels if isinstance(kernels, str) else None


def forward(problem: Problem) -> Tensor:
    """As `reference.forward`."""
    count = 1 if _is_interpreted() else _multiprocessors(problem.de.device)
    out, call = launch.forward_call(problem, _chooser(problem), count)
    run(call, problem)
    return out


def backward(problem: Problem, grad: Tensor, needed: list[bool]) -> Gradients:
    """As `reference.backward`."""
    grads, calls, finish = launch.backward_calls(problem, grad, needed, _chooser(problem))
    for call in calls:
        run(call, problem)
    finish()
    return grads


def run(call: launch.Call, problem: Problem) -> None:
    """Launch a kernel, if there is anything to do."""
    if problem.de.numel() == 0:
        return
    with torch.cuda.device_of(problem.de):
        kernel = device_kernels()[call.name][call.programs,]
        kernel(*call.arguments, **call.options, **call.settings)


def _chooser(problem: Problem) -> launch.Choose:
    if _is_interpreted():
        return lambda name, *_: tiles.INTERPRETED[name]
    capability = torch.cuda.get_device_capability(problem.de.device)
    return functools.partial(tiles.tile_for, capability=capability)


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _is_interpreted() -> bool:
    return os.environ.get('TRITON_INTERPRET') == '1'


@functools.cache
def device_kernels() -> dict | str:
    """The device code by name, or why it cannot be had. Triton takes long to import: not before."""
    try:
        import triton  # noqa: F401
    except ModuleNotFoundError:
        return 'triton is not installed: pip install triton'
    except Exception as error:
        return f'triton cannot be imported: {error}'
    from .device import backward, forward

    kernels = (
        forward.forward,
        backward.backward_products,
        backward.backward_kernels,
        backward.backward_de,
    )
    return {kernel.__name__: kernel for kernel in kernels}
