"""A plain U-shaped decoder of depth."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import ModuleList, Sequential
from torch import Tensor, nn

from fade_mm.registry import MODELS

from .head import LOSS, DepthHead

_NORM = dict(type='BN')


@MODELS.register_module()
class UNetDepthHead(DepthHead):
    """Upsample, concatenate, two convolutions, from level to level.

    All levels are projected to as many channels, so that FADE's gate can work, and does unless
    ``upsample_cfg`` says otherwise. Depth is predicted at the finest level and interpolated to
    the image.

    Args:
        in_channels: Channels of the backbone features, from fine to coarse, two at least.
        channels: Channels of every level. Default: 64.
        max_depth: The largest depth that can be predicted, in metres. Default: 10.0.
        upsample_cfg: Config of the upsamplers; see `build_upsampler`. Default: ``None``,
            nearest-neighbour interpolation.
        norm_cfg: Config of the norms. Default: ``dict(type='BN')``.
        loss_decode: Config of a loss, or of several. Default: `SILogLoss`.
        init_cfg: As in mmengine's ``BaseModule``. Default: ``None``.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 64,
        max_depth: float = 10.0,
        upsample_cfg: dict | None = None,
        norm_cfg: dict | None = _NORM,
        loss_decode: dict | Sequence[dict] = LOSS,
        init_cfg: dict | None = None,
    ) -> None:
        steps = len(in_channels) - 1
        if steps < 1:
            raise ValueError(f'UNetDepthHead needs two features at least, got {len(in_channels)}')
        super().__init__(
            in_channels,
            max_depth,
            upsample_cfg,
            steps=[(channels, channels)] * steps,
            gating=None,
            loss_decode=loss_decode,
            init_cfg=init_cfg,
        )
        self.channels = channels
        self.projections = ModuleList(
            ConvModule(c, channels, 1, norm_cfg=norm_cfg) for c in in_channels
        )
        self.convs = ModuleList(
            Sequential(
                ConvModule(2 * channels, channels, 3, padding=1, norm_cfg=norm_cfg),
                ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg),
            )
            for _ in range(steps)
        )
        self.conv_depth = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Depth in metres ``(N, 1, h, w)``, at the finest level.

        Args:
            inputs: Features ``(N, in_channels[i], h_i, w_i)``, from fine to coarse.
        """
        *finer, x = (project(x) for project, x in zip(self.projections, inputs, strict=True))
        for step, (en, conv) in enumerate(zip(reversed(finer), self.convs, strict=True)):
            x = conv(torch.cat(self.climb(step, en, x), 1))
        return self.metres(self.conv_depth(x))
