"""1x1 convolutions, the larger part of an upsampler's time on a CPU, as matrix products."""

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from fade_mm.ops.backend import cpu
from fade_mm.ops.checks import is_tracing

_PRODUCTS_ARE_FAST = cpu.is_intel()


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)`` of a 1x1 convolution, on a CPU as a matrix product where that is faster.

    PyTorch's convolution reorders the whole feature before and after; a product reads it as it
    lies. It is MKL's, though, which is faster than the convolution on Intel's processors alone,
    except for a single output channel (docs/performance.md). A module with hooks, or of a class
    derived from `nn.Conv2d`, is called as it is.

    Args:
        conv: A 1x1 convolution with stride 1, no padding and one group.
        x: The feature ``(N, C, H, W)``.
    """
    slow = conv.out_channels > 1 and not _PRODUCTS_ARE_FAST
    if slow or x.device.type != 'cpu' or is_tracing() or not x.is_contiguous():
        return conv(x)
    if type(conv) is not nn.Conv2d or _is_hooked(conv):
        return conv(x)
    weight = conv.weight.flatten(1).expand(len(x), -1, -1)
    if conv.bias is None:
        y = torch.bmm(weight, x.flatten(2))
    else:
        y = torch.baddbmm(conv.bias[:, None], weight, x.flatten(2))
    return y.unflatten(2, x.shape[2:])


def _is_hooked(module: nn.Module) -> bool:
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or _has_any_global_hook()
