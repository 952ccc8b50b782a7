"""1x1 convolutions, the larger part of an upsampler's time on a CPU, as matrix products."""

import functools

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules import module as of_torch

from fade_mm.ops.backend import cpu
from fade_mm.ops.checks import is_tracing


def pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """``conv(x)`` of a 1x1 convolution, on a CPU as a matrix product where that is faster.

    PyTorch's convolution reorders the whole feature before and after; a product reads it as it
    lies. It is MKL's, though, which is faster than the convolution on Intel's processors alone,
    except for a single output channel (docs/performance.md). A module that `is_plain` does not
    know is called, whatever it is.

    Args:
        conv: A 1x1 convolution with stride 1, no padding and one group.
        x: The feature ``(N, C, H, W)``.

    Returns:
        What ``conv(x)`` returns.
    """
    if isinstance(x, Proxy) or x.device.type != 'cpu' or is_tracing() or not x.is_contiguous():
        return conv(x)
    if not is_plain(conv) or (conv.out_channels > 1 and not products_are_fast()):
        return conv(x)
    if conv.kernel_size != (1, 1) or conv.groups > 1:
        return conv(x)
    weight = conv.weight.flatten(1).expand(len(x), -1, -1)
    if conv.bias is None:
        y = torch.bmm(weight, x.flatten(2))
    else:
        y = torch.baddbmm(conv.bias[:, None], weight, x.flatten(2))
    return y.unflatten(2, x.shape[2:])


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
def products_are_fast() -> bool:
    """Whether matrix products beat convolutions on this machine's processor."""
    return cpu.is_intel()
