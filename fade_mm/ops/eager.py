"""The operator where PyTorch computes at once on a CPU and nobody looks on: straight to the kernel.

`torch.library` lets autograd, compilers, modes and subclasses see the operator, and takes several
times as long for it as a small kernel does. Where there are none of these, there is nobody to see
it: `takes` says so, of anything that it does not know too little, and results are the same bit for
bit, since the kernel is.
"""

import functools

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from . import operator
from .backend import cpu, preferred_backend
from .checks import is_tracing
from .problem import Problem

try:  # what PyTorch keeps to itself; without it, every call goes by `torch.library`
    from torch._C import (
        DispatchKey,
        _are_functorch_transforms_active,
        _dispatch_keys,
        _dispatch_tls_is_dispatch_key_excluded,
        _len_torch_dispatch_stack,
        _len_torch_function_stack,
    )
    from torch._C._autograd import _profiler_enabled

    with torch.inference_mode():
        _of_inference = _dispatch_keys(torch.empty(0, device='cpu'))
    # Those of tensors that are just values on a CPU: no subclass, no wrapper, no lazy negation.
    _PLAIN = (_dispatch_keys(torch.empty(0, device='cpu')), _of_inference)
    _AUTOGRAD = DispatchKey.AutogradFunctionality
    IS_KNOWN = True
except (ImportError, AttributeError):
    IS_KNOWN = False


def takes(backend: str | None, *tensors: Tensor | None) -> bool:
    """Whether the kernel may be called directly with these tensors, of which some may be None.

    Args:
        backend: The backend that must compute. Default of `use_backend` or the environment: None.
        tensors: All of them, those of the backward pass, too.
    """
    if is_tracing() or not IS_KNOWN or not cpu.is_built():
        return False
    if (backend or preferred_backend()) not in (None, 'cpu'):
        return False
    if _len_torch_dispatch_stack() or _len_torch_function_stack() or _profiler_enabled():
        return False
    if _are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    for x in tensors:
        if x is not None and not (
            type(x) in (Tensor, nn.Parameter)
            and x.dtype in cpu.DTYPES
            and _dispatch_keys(x) in _PLAIN
        ):
            return False
    return True


def needs_graph(*tensors: Tensor | None) -> bool:
    """Whether a result of these tensors, of which some may be None, has a gradient."""
    if not torch.is_grad_enabled() or not any(x is not None and x.requires_grad for x in tensors):
        return False
    # Within an operator's kernel that is written in Python, autograd is left out.
    return not _dispatch_tls_is_dispatch_key_excluded(_AUTOGRAD)


def gated_reassemble(*arguments) -> Tensor:
    """As the operator of that name, with arguments that `takes` agrees to."""
    *tensors, scale_factor, softmax = arguments
    _check(scale_factor, softmax, *(None if x is None else x.shape for x in tensors))
    if needs_graph(*tensors):
        return _GatedReassemble.apply(*arguments)
    return cpu.forward(Problem(*arguments, checked=True))


class _GatedReassemble(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        operator.setup_context(ctx, arguments, None)
        return cpu.forward(Problem(*arguments, checked=True))

    @staticmethod
    def backward(ctx, grad):
        tensors = ctx.saved_tensors
        if torch.is_grad_enabled() or not takes(ctx.backend, grad, *tensors):
            return operator.gradients(ctx, tensors, grad)
        problem = Problem(*tensors, *ctx.options, checked=True)
        grads = cpu.backward(problem, grad, ctx.needs_input_grad[:5])
        return *grads, *(None for _ in ctx.options)


@functools.lru_cache(maxsize=1024)
def _check(scale_factor: int, softmax: bool, *shapes: torch.Size | None) -> None:
    """Raise unless tensors of these shapes fit each other; what has been checked is not again."""
    tensors = (None if x is None else torch.empty(x, device='meta') for x in shapes)
    Problem(*tensors, scale_factor, softmax)
