"""Which low-resolution point belongs to a high-resolution one, for what is not reassembly.

Points are taken by index: unlike slices, that holds for every size when sizes are symbolic.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Proxy
from torch.fx.experimental.symbolic_shapes import statically_known_true

from .checks import is_exporting, is_tracing
from .fx import leaf

Size = tuple[int, int]


def is_recorded(x: Tensor | Proxy) -> bool:
    """Whether `torch.fx`, `torch.jit` or `torch.export` records one graph for all sizes.

    There, code must not branch on a size, whatever the sizes are that it is recorded with: guards
    of `torch.export` do not come as far as ONNX.
    """
    return isinstance(x, Proxy) or torch.jit.is_tracing() or is_exporting()


def step_of(size: Size, low: Size, scale_factor: int) -> int | torch.SymInt | Tensor:
    """The ratio of two resolutions that belong together: 1 if they are equal, else the factor.

    Where a graph for all sizes is recorded, it computes the ratio when it runs: from symbols, or
    under `torch.jit.trace` as a tensor. `torch.compile` compiles anew where the ratio changes.
    """
    if is_exporting():
        if _are_known_to_be_equal(size, low):
            return 1
        surplus = sum(size) - sum(low)  # no axis is longer in the smaller feature
        return 1 + (scale_factor - 1) * torch.sym_min(surplus, 1)
    if torch.jit.is_tracing():
        same = [torch.as_tensor(a == b) for a, b in zip(size, low, strict=True)]
        return torch.where(same[0] & same[1], 1, scale_factor)
    return 1 if all(a == b for a, b in zip(size, low, strict=True)) else scale_factor


@leaf
def nearest_up(x: Tensor, size: Size, scale_factor: int = 2) -> Tensor:
    """Nearest-neighbour upsampling: every point reads the one that reassembly reads around.

    Args:
        x: Feature ``(N, C, H, W)``.
        size: Height and width of the output; `reassemble` says which fit.
        scale_factor: Ratio of the two resolutions. Default: 2.

    Returns:
        The upsampled feature ``(N, C, *size)``.
    """
    return _take(x, size, step_of(size, x.shape[2:], scale_factor))


@leaf
def fit_size(x: Tensor, size: Size) -> Tensor:
    """Crop what hangs over ``size``, and repeat the last row or column where one is missing.

    Args:
        x: Feature ``(N, C, H, W)``.
        size: Height and width of the output.

    Returns:
        The feature ``(N, C, *size)``.
    """
    return x if _are_known_to_be_equal(size, x.shape[2:]) else _take(x, size, 1)


@leaf
def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """`F.pixel_shuffle`, whose gradient has a wrong shape where the batch is empty."""
    if is_tracing() or x.numel():
        return F.pixel_shuffle(x, factor)
    *batch, c, h, w = x.shape
    return x.reshape(*batch, c // factor**2, h * factor, w * factor)


@leaf
def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """`F.pixel_unshuffle`, which returns ``x`` as it is where the batch is empty."""
    if is_tracing() or x.numel():
        return F.pixel_unshuffle(x, factor)
    *batch, c, h, w = x.shape
    return x.reshape(*batch, c * factor**2, h // factor, w // factor)


def _take(x: Tensor, size: Size, step: int | torch.SymInt | Tensor) -> Tensor:
    rows, cols = (
        (torch.arange(a, device=x.device) // step).clamp(max=b - 1)
        for a, b in zip(size, x.shape[2:], strict=True)
    )
    return x.index_select(2, rows).index_select(3, cols)


def _are_known_to_be_equal(size: Size, other: Size) -> bool:
    """Whether two sizes are equal at all times; asks nothing of those that are symbolic."""
    if torch.jit.is_tracing():
        return False
    return all(statically_known_true(a == b) for a, b in zip(size, other, strict=True))
