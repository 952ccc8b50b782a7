"""1x1 convolutions, the larger part of an upsampler's time on a CPU, as matrix products."""

import functools

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules import module as of_torch

from fade_mm.ops import eager
from fade_mm.ops.backend import cpu
from fade_mm.ops.checks import is_tracing

_MIN_SIZE = 2**15  # values of a feature, below which a convolution takes as long


def pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """``conv(x)`` of a 1x1 convolution, on a CPU as a matrix product where that is faster.

    PyTorch's convolution reorders the whole feature before and after; a product reads it as it
    lies. On Intel's processors it is MKL's, on others that of the CPU kernel, where that may be
    called directly (docs/performance.md). A module that `is_plain` does not know is called,
    whatever it is.

    Args:
        conv: A 1x1 convolution with stride 1, no padding and one group.
        x: The feature ``(N, C, H, W)``.

    Returns:
        What ``conv(x)`` returns.
    """
    if isinstance(x, Proxy) or x.device.type != 'cpu' or is_tracing() or not x.is_contiguous():
        return conv(x)
    if not is_plain(conv) or conv.kernel_size != (1, 1) or conv.groups > 1:
        return conv(x)
    way = fastest()
    if way == 'kernel' and x.numel() >= _MIN_SIZE and _takes(x, conv.weight, conv.bias):
        return _by_kernel(conv, x)
    # A product of one row is faster than a convolution everywhere.
    return _by_mkl(conv, x) if way == 'mkl' or conv.out_channels == 1 else conv(x)


def _by_mkl(conv: nn.Conv2d, x: Tensor) -> Tensor:
    weight = conv.weight.flatten(1).expand(len(x), -1, -1)
    if conv.bias is None:
        y = torch.bmm(weight, x.flatten(2))
    else:
        y = torch.baddbmm(conv.bias[:, None], weight, x.flatten(2))
    return y.unflatten(2, x.shape[2:])


def _takes(*tensors: Tensor | None) -> bool:
    """Whether the CPU kernel's product may be called directly with these."""
    if torch.is_autocast_enabled('cpu') or not eager.takes(None, *tensors):
        return False
    dtypes = {x.dtype for x in tensors if x is not None}
    return len(dtypes) == 1 and dtypes <= {torch.float32, torch.float64}


def _by_kernel(conv: nn.Conv2d, x: Tensor) -> Tensor:
    tensors = x, conv.weight, conv.bias
    if eager.needs_graph(*tensors):
        return _Pointwise.apply(*tensors)
    return _product(*tensors)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cpu.multiply(weight.flatten(1), x, bias)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if torch.is_grad_enabled() or not _takes(grad, x, weight):
            return _convolution_backward(grad, x, weight, needed)
        grad = grad.contiguous()
        return (
            _product(grad, weight.transpose(0, 1), None) if needed[0] else None,
            cpu.correlate(grad, x).view_as(weight) if needed[1] else None,
            grad.sum((0, 2, 3)) if needed[2] else None,
        )


def _convolution_backward(grad, x, weight, needed):
    kind = dict(stride=[1, 1], padding=[0, 0], dilation=[1, 1], transposed=False)
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [len(weight)], **kind, output_padding=[0, 0], groups=1, output_mask=needed
    )


def is_plain(conv: nn.Module) -> bool:
    """Whether calling a module is a convolution with its weights, and nobody would miss the call.

    A wrapper, an `nn.Conv2d` of another class or of another kind than our layers have, or one with
    hooks or a forward of its own is not plain.
    """
    if type(conv) is not nn.Conv2d or 'forward' in vars(conv):
        return False
    kind = (conv.stride, conv.dilation, conv.padding_mode)
    if kind != ((1, 1), (1, 1), 'zeros') or conv.padding != tuple(a // 2 for a in conv.kernel_size):
        return False
    kinds = ('forward_hooks', 'forward_pre_hooks', 'backward_hooks', 'backward_pre_hooks')
    return not any(getattr(conv, f'_{x}') or getattr(of_torch, f'_global_{x}') for x in kinds)


@functools.cache
def fastest() -> str:
    """What is fastest on this machine's processor: ``'mkl'``, ``'kernel'`` or ``'convolution'``.

    The CPU kernel's products have been measured on AMD's processors alone.
    """
    if cpu.is_intel():
        return 'mkl'
    return 'kernel' if 'avx2' in cpu.instruction_sets() else 'convolution'
