"""The path aggregation necks of YOLOX and RTMDet with upsamplers by config."""

import torch
from mmdet.models.necks import YOLOXPAFPN as MMDetYOLOXPAFPN
from mmdet.models.necks import CSPNeXtPAFPN as MMDetCSPNeXtPAFPN
from mmengine.model import ModuleList
from torch import Tensor

from fade_mm.hosts.base import StandIn
from fade_mm.registry import MODELS
from fade_mm.upsamplers import build_upsampler


class UpsamplerCSPPAFPN(StandIn):
    """Gives a path aggregation neck that concatenates upsamplers; put it before the host class.

    The host has one interpolation for all steps, and takes exact ratios only; ours have a layer for
    each, from coarse to fine, at any size. The decoder feature is projected to as many channels
    as the encoder feature has, so that FADE's gate can work, and does unless ``upsample_cfg`` says
    otherwise.

    Args:
        upsample_cfg: With a ``type``, the config of the upsamplers (see `build_upsampler`).
            Without one, the arguments of the host's own interpolation, and the neck is the host's.
            Default: ``dict(scale_factor=2, mode='nearest')``.
        *args, **kwargs: Arguments of the host's neck.
    """

    stock_upsampler = 'Nearest'

    def __init__(self, *args, upsample_cfg: dict | None = None, **kwargs) -> None:
        stock = {'scale_factor': 2, 'mode': 'nearest'}
        upsample_cfg = stock if upsample_cfg is None else upsample_cfg
        if not isinstance(upsample_cfg, dict):
            raise TypeError(
                f"upsample_cfg must be a dict, e.g. dict(type='fade'), got {upsample_cfg!r}"
            )
        asked = 'type' in upsample_cfg
        if asked and 'mode' in upsample_cfg:  # left over from the host's
            upsample_cfg = {key: x for key, x in upsample_cfg.items() if key not in stock}
        super().__init__(*args, upsample_cfg=stock if asked else upsample_cfg, **kwargs)
        self.upsamplers = None
        if asked:
            del self.upsample
            self.upsamplers = ModuleList(
                build_upsampler(upsample_cfg, channels, channels, skip='concatenated')
                for channels in reversed(self.in_channels[:-1])
            )

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pyramid features, from fine to coarse.

        Args:
            inputs: Backbone features ``(N, in_channels[i], h_i, w_i)``, from fine to coarse.

        Returns:
            As many features of ``out_channels`` channels.
        """
        if self.upsamplers is None:
            return super().forward(inputs)
        if len(inputs) != len(self.in_channels):
            raise ValueError(
                f'expected {len(self.in_channels)} backbone features, got {len(inputs)}'
            )
        *finer, x = inputs
        projected = []
        steps = zip(
            self.reduce_layers, self.upsamplers, self.top_down_blocks, reversed(finer), strict=True
        )
        for reduce, up, block, en in steps:
            x = reduce(x)
            projected.append(x)
            en, x = up.pair(en, x)
            x = block(torch.cat([x, en], dim=1))
        levels = [x]
        steps = zip(self.downsamples, self.bottom_up_blocks, reversed(projected), strict=True)
        for down, block, level in steps:
            x = block(torch.cat([down(x), level], dim=1))
            levels.append(x)
        return tuple(conv(x) for conv, x in zip(self.out_convs, levels, strict=True))


@MODELS.register_module()
class YOLOXPAFPN(UpsamplerCSPPAFPN, MMDetYOLOXPAFPN):
    """YOLOX's neck; see `UpsamplerCSPPAFPN` for ``upsample_cfg``."""


@MODELS.register_module()
class CSPNeXtPAFPN(UpsamplerCSPPAFPN, MMDetCSPNeXtPAFPN):
    """RTMDet's neck; see `UpsamplerCSPPAFPN` for ``upsample_cfg``."""
