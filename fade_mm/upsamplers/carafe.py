"""CARAFE: Content-Aware ReAssembly of FEatures (arXiv 1905.02188).

Arguments and parameter names are those of mmcv's ``CARAFEPack``, so its checkpoints load; the
reassembly is ours and runs on every device, mmcv's on accelerators only.
"""

from torch import Tensor, nn

from fade_mm.ops import gated_reassemble
from fade_mm.ops.checks import check_dtypes, check_feature, check_odd, check_positive
from fade_mm.ops.sampling import pixel_shuffle
from fade_mm.registry import MODELS

from .pointwise import pointwise


@MODELS.register_module('carafe')
class CARAFE(nn.Module):
    """CARAFE upsampling, ``up(x)``; kernels come from the decoder feature alone.

    Args:
        channels: Channels C of the feature.
        scale_factor: Upsampling ratio. Default: 2.
        up_kernel: Upsampling kernel size K, odd. Default: 5.
        up_group: Groups of channels with kernels of their own; divides ``channels``. Default: 1.
        encoder_kernel: Kernel size of the content encoder, odd. Default: 3.
        encoder_dilation: Dilation of the content encoder. Default: 1.
        compressed_channels: Channels that the content encoder reads. Default: 64.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    guided = False

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
    ) -> None:
        super().__init__()
        check_positive(
            channels=channels,
            scale_factor=scale_factor,
            up_group=up_group,
            encoder_dilation=encoder_dilation,
            compressed_channels=compressed_channels,
        )
        check_odd(up_kernel=up_kernel, encoder_kernel=encoder_kernel)
        if channels % up_group:
            raise ValueError(f'up_group must divide channels, got {up_group} and {channels}')
        self.channels = channels
        self.scale_factor = scale_factor
        self.up_kernel = up_kernel
        self.up_group = up_group
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            compressed_channels,
            up_kernel**2 * up_group * scale_factor**2,
            encoder_kernel,
            padding=(encoder_kernel - 1) * encoder_dilation // 2,
            dilation=encoder_dilation,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform compressor, small-normal content encoder (std 0.001), zero biases."""
        nn.init.xavier_uniform_(self.channel_compressor.weight)
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        nn.init.zeros_(self.channel_compressor.bias)
        nn.init.zeros_(self.content_encoder.bias)

    def logits(self, x: Tensor) -> Tensor:
        """Kernel logits ``(N, up_group * K*K, scale_factor * H, scale_factor * W)``."""
        embedded = pointwise(self.channel_compressor, x)
        return pixel_shuffle(self.content_encoder(embedded), self.scale_factor)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample ``x`` ``(N, C, H, W)`` to ``(N, C, scale_factor * H, scale_factor * W)``.

        Raises:
            TypeError, ValueError: ``x`` does not fit the layer.
        """
        check_feature('x', x, self.channels)
        check_dtypes(self, x=x)
        logits = self.logits(x)
        n, _, h, w = logits.shape
        y = gated_reassemble(
            x.reshape(n * self.up_group, self.channels // self.up_group, *x.shape[2:]),
            logits.reshape(n * self.up_group, self.up_kernel**2, h, w),
            scale_factor=self.scale_factor,
        )
        return y.reshape(n, self.channels, h, w)
