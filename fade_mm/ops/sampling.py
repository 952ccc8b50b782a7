"""Which low-resolution point belongs to a high-resolution one, for what is not reassembly."""

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true


def step_of(size: tuple[int, int], low: tuple[int, int], scale_factor: int) -> int:
    """The ratio of two resolutions that belong together: 1 if they are equal, else the factor.

    While sizes are symbolic, they count as different unless they are known to be equal.
    """
    same = (a == b for a, b in zip(size, low, strict=True))
    known = (statically_known_true(x) if isinstance(x, torch.SymBool) else bool(x) for x in same)
    return 1 if all(known) else scale_factor


def nearest_up(x: Tensor, size: tuple[int, int], scale_factor: int = 2) -> Tensor:
    """Nearest-neighbour upsampling: every point reads the one that reassembly reads around.

    Args:
        x: Feature ``(N, C, H, W)``.
        size: Height and width of the output; `reassemble` says which fit.
        scale_factor: Ratio of the two resolutions. Default: 2.

    Returns:
        The upsampled feature ``(N, C, *size)``.
    """
    low = x.shape[2:]
    step = step_of(size, low, scale_factor)
    rows, cols = (
        (torch.arange(a, device=x.device) // step).clamp(max=b - 1)
        for a, b in zip(size, low, strict=True)
    )
    return x.index_select(2, rows).index_select(3, cols)
