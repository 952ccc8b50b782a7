"""CARAFE: Content-Aware ReAssembly of FEatures (arXiv 1905.02188).

Arguments and parameter names are those of mmcv's ``CARAFEPack``, so its checkpoints load; the
reassembly is ours and runs on every device, mmcv's on accelerators only.
"""

import torch
from torch import Tensor, nn

from fade_mm.ops.checks import check_odd, check_positive
from fade_mm.ops.geometry import pixel_shuffle

from .base import DecoderUpsampler, View, kernels_view, start
from .by_group import check_groups, reassemble_by_group
from .pointwise import pointwise
from .registry import register_upsampler


@register_upsampler('carafe')
class CARAFE(DecoderUpsampler):
    """CARAFE upsampling, ``up(de)``; kernels come from the decoder feature alone.

    Args:
        channels: Channels C of the feature.
        scale_factor: Upsampling ratio. Default: 2.
        up_kernel: Upsampling kernel size K, odd. Default: 5.
        up_group: Groups of channels with kernels of their own; divides ``channels``. Default: 1.
        encoder_kernel: Kernel size of the content encoder, odd. Default: 3.
        encoder_dilation: Dilation of the content encoder. Default: 1.
        compressed_channels: Channels that the content encoder reads. Default: 64.
        device, dtype: Where and what the weights are. Default: PyTorch's.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: arXiv 1905.02188, section 3.2.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import CARAFE
        >>> CARAFE(8)(torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 8, 10])
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            channels=channels,
            scale_factor=scale_factor,
            encoder_dilation=encoder_dilation,
            compressed_channels=compressed_channels,
        )
        check_odd(up_kernel=up_kernel, encoder_kernel=encoder_kernel)
        check_groups('channels', channels, up_group)
        self.channels = self.in_channels_de = channels
        self.scale_factor = scale_factor
        self.up_kernel = up_kernel
        self.up_group = up_group
        self.encoder_kernel = encoder_kernel
        self.encoder_dilation = encoder_dilation
        self.compressed_channels = compressed_channels
        factory = dict(device=device, dtype=dtype)
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1, **factory)
        self.content_encoder = nn.Conv2d(
            compressed_channels,
            up_kernel**2 * up_group * scale_factor**2,
            encoder_kernel,
            padding=(encoder_kernel - 1) * encoder_dilation // 2,
            dilation=encoder_dilation,
            **factory,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform compressor, small-normal content encoder (std 0.001), zero biases."""
        start(self.channel_compressor, nn.init.xavier_uniform_)
        start(self.content_encoder, lambda weight: nn.init.normal_(weight, std=0.001))

    def logits(self, de: Tensor) -> Tensor:
        """Kernel logits ``(N, up_group * K*K, scale_factor * H, scale_factor * W)``."""
        embedded = pointwise(self.channel_compressor, de)
        return pixel_shuffle(self.content_encoder(embedded), self.scale_factor)

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, C, H, W)`` as ``(N, C, scale_factor * H, scale_factor * W)``."""
        logits = self.logits(de)
        return reassemble_by_group(de, logits, self.up_group, scale_factor=self.scale_factor)

    def _views(self, de: Tensor) -> list[View]:
        return [kernels_view(self.logits(de), self.up_group)]
