"""UPerNet's head with upsamplers by config."""

import torch
from mmseg.models.decode_heads import UPerHead as MMSegUPerHead
from mmseg.models.utils import resize
from torch import Tensor

from fade_mm.hosts.base import StandIn
from fade_mm.hosts.top_down import build_top_down, top_down
from fade_mm.registry import MODELS


@MODELS.register_module()
class UPerHead(StandIn, MMSegUPerHead):
    """mmsegmentation's UPerNet head with upsamplers in its top-down path.

    The last step, which resizes all levels to the finest, stays the host's.

    Args:
        upsample_cfg: Config of the upsamplers; see `build_upsampler` (FADE's gate is off unless
            asked for, since the head adds the lateral feature itself). Default: ``None``, the
            host's own interpolation.
        **kwargs: Arguments of mmsegmentation's ``UPerHead``.
    """

    stock_upsampler = 'Bilinear'

    def __init__(self, *, upsample_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.upsamplers = None
        if upsample_cfg is not None:
            self.upsamplers = build_top_down(upsample_cfg, self.channels, len(self.in_channels))

    def _forward_feature(self, inputs: tuple[Tensor, ...]) -> Tensor:
        if self.upsamplers is None:
            return super()._forward_feature(inputs)
        inputs = self._transform_inputs(inputs)
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, inputs, strict=False)]
        merged = top_down([*laterals, self.psp_forward(inputs)], self.upsamplers)
        outs = [conv(x) for conv, x in zip(self.fpn_convs, merged, strict=False)] + merged[-1:]
        outs[1:] = [
            resize(x, outs[0].shape[2:], mode='bilinear', align_corners=self.align_corners)
            for x in outs[1:]
        ]
        return self.fpn_bottleneck(torch.cat(outs, dim=1))
