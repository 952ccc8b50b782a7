"""What PyTorch itself upsamples with, under the names and arguments of mmcv's layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops.checks import check_positive
from fade_mm.ops.geometry import pixel_shuffle

from .base import DecoderUpsampler, start
from .registry import register_upsampler


@register_upsampler('nearest')
class Nearest(DecoderUpsampler):
    """Nearest-neighbour interpolation.

    Args:
        scale_factor: Upsampling ratio. Default: 2.

    Raises:
        TypeError, ValueError: ``scale_factor`` is no positive integer.

    Source: `torch.nn.Upsample`.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import Nearest
        >>> Nearest()(torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 8, 10])
    """

    _mode = 'nearest'

    def __init__(self, scale_factor: int = 2) -> None:
        super().__init__()
        check_positive(scale_factor=scale_factor)
        self.scale_factor = scale_factor

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, C, H, W)`` as ``(N, C, scale_factor * H, scale_factor * W)``."""
        return F.interpolate(de, scale_factor=float(self.scale_factor), mode=self._mode)


@register_upsampler('bilinear')
class Bilinear(Nearest):
    """Bilinear interpolation.

    Args:
        scale_factor: Upsampling ratio. Default: 2.
        align_corners: Whether the corners of input and output are the same points; ``None`` is
            False. Default: ``None``.

    Raises:
        TypeError, ValueError: ``scale_factor`` is no positive integer.

    Source: `torch.nn.Upsample`.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import Bilinear
        >>> Bilinear()(torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 8, 10])
    """

    def __init__(self, scale_factor: int = 2, align_corners: bool | None = None) -> None:
        super().__init__(scale_factor)
        self.align_corners = align_corners

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, C, H, W)`` as ``(N, C, scale_factor * H, scale_factor * W)``."""
        return F.interpolate(
            de,
            scale_factor=float(self.scale_factor),
            mode='bilinear',
            align_corners=self.align_corners,
        )


@register_upsampler('deconv')
class Deconv(DecoderUpsampler, nn.ConvTranspose2d):
    """Transposed convolution, whose geometry follows from its kernel size.

    Args:
        in_channels: Channels of the feature.
        out_channels: Channels of the output; with others than ``in_channels``, ``en`` must be
            larger than ``de``.
        kernel_size: Size of the kernel, at least ``scale_factor`` or odd.
        scale_factor: Upsampling ratio. Default: 2.
        stride, padding, output_padding: Geometry of one's own. Default: ``None``, that which
            upsamples by exactly ``scale_factor``.
        groups, bias, dilation, padding_mode, device, dtype: As in `torch.nn.ConvTranspose2d`.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: `torch.nn.ConvTranspose2d`.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import Deconv
        >>> Deconv(8, 8, kernel_size=3)(torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 8, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        scale_factor: int = 2,
        stride: int | None = None,
        padding: int | None = None,
        output_padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
        dilation: int = 1,
        padding_mode: str = 'zeros',
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_positive(scale_factor=scale_factor, kernel_size=kernel_size)
        geometry = transposed_geometry(kernel_size, scale_factor)
        own = dict(stride=stride, padding=padding, output_padding=output_padding)
        geometry |= {name: value for name, value in own.items() if value is not None}
        nn.ConvTranspose2d.__init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            **geometry,
            groups=groups,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        self.in_channels_de = in_channels
        self.scale_factor = scale_factor
        self._changes_channels = in_channels != out_channels

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, in_channels, H, W)`` as ``(N, out_channels, s * H, s * W)``."""
        return nn.ConvTranspose2d.forward(self, de)

    extra_repr = nn.ConvTranspose2d.extra_repr


@register_upsampler('pixel_shuffle')
class PixelShuffle(DecoderUpsampler):
    """A convolution that makes the sub-pixels of the output as channels, and their arrangement.

    Args:
        in_channels: Channels of the feature.
        out_channels: Channels of the output; with others than ``in_channels``, ``en`` must be
            larger than ``de``.
        scale_factor: Upsampling ratio s.
        upsample_kernel: Size of the kernel, odd.
        device, dtype: Where and what the weights are. Default: PyTorch's.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: arXiv 1609.05158, section 3.2.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import PixelShuffle
        >>> PixelShuffle(8, 8, 2, upsample_kernel=3)(torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 8, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale_factor: int,
        upsample_kernel: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            out_channels=out_channels,
            scale_factor=scale_factor,
            upsample_kernel=upsample_kernel,
        )
        self.in_channels = self.in_channels_de = in_channels
        self.out_channels = out_channels
        self.scale_factor = scale_factor
        self.upsample_kernel = upsample_kernel
        self._changes_channels = in_channels != out_channels
        self.upsample_conv = nn.Conv2d(
            in_channels,
            out_channels * scale_factor**2,
            upsample_kernel,
            padding=(upsample_kernel - 1) // 2,
            device=device,
            dtype=dtype,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform weights and zero biases."""
        start(self.upsample_conv, nn.init.xavier_uniform_)

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, in_channels, H, W)`` as ``(N, out_channels, s * H, s * W)``."""
        return pixel_shuffle(self.upsample_conv(de), self.scale_factor)


def transposed_geometry(kernel_size: int, scale_factor: int) -> dict:
    """Arguments that make a transposed convolution upsample by exactly ``scale_factor``."""
    padding = max(0, -((scale_factor - kernel_size) // 2))
    return {
        'stride': scale_factor,
        'padding': padding,
        'output_padding': scale_factor + 2 * padding - kernel_size,
    }
