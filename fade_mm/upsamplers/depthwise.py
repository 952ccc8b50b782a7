"""A control for upsamplers with kernels of their own making: kernels that are learned and fixed."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops.checks import check_positive

from .base import DecoderUpsampler, start
from .registry import register_upsampler


@register_upsampler('depthwise')
class Depthwise(DecoderUpsampler):
    """Interpolation, and a depthwise convolution that starts as the identity.

    One kernel a channel, the same at all points of all pictures: what an upsampler whose kernels
    depend on the features gains over this layer, it gains by looking at them.

    Args:
        in_channels: Channels of the feature.
        scale_factor: Upsampling ratio. Default: 2.
        kernel_size: Size of the kernel, odd. Default: 5.
        interpolation: ``'bilinear'`` or ``'nearest'``. Default: ``'bilinear'``.
        device, dtype: Where and what the weights are. Default: PyTorch's.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: ours, a control; no publication.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import Depthwise
        >>> Depthwise(8)(torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 8, 10])
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        kernel_size: int = 5,
        interpolation: str = 'bilinear',
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, scale_factor=scale_factor, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, got {kernel_size}')
        if interpolation not in ('bilinear', 'nearest'):
            raise ValueError(
                f"interpolation must be 'bilinear' or 'nearest', got {interpolation!r}"
            )
        self.in_channels = self.in_channels_de = in_channels
        self.scale_factor = scale_factor
        self.kernel_size = kernel_size
        self.interpolation = interpolation
        self.filter = nn.Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=in_channels,
            device=device,
            dtype=dtype,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """The identity."""
        start(self.filter, lambda weight: nn.init.dirac_(weight, groups=self.in_channels))

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, C, H, W)`` as ``(N, C, scale_factor * H, scale_factor * W)``."""
        factor = float(self.scale_factor)
        return self.filter(F.interpolate(de, scale_factor=factor, mode=self.interpolation))
