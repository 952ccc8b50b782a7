"""SegFormer's all-MLP head with upsamplers by config."""

import torch
from mmcv.cnn import ConvModule
from mmengine.model import ModuleList
from mmseg.models.decode_heads import SegformerHead as MMSegSegformerHead
from torch import Tensor

from fade_mm.hosts.base import StandIn
from fade_mm.registry import MODELS
from fade_mm.upsamplers import build_upsampler


@MODELS.register_module()
class SegformerHead(StandIn, MMSegSegformerHead):
    """mmsegmentation's SegFormer head, in which each coarse level climbs to the finest in x2 steps.

    Every step is guided by the projected feature of the next finer level. With four levels, six
    upsamplers: c4 by c3, c2, c1; c3 by c2, c1; c2 by c1 (arXiv 2207.10392, section 5).

    Args:
        upsample_cfg: Config of the upsamplers; see `build_upsampler`. Default: ``None``, the
            host's own interpolation.
        plain_projections: Project with plain linear layers, as the authors' head does, instead
            of adding norm and activation. The paper's figures belong to it. Default: ``False``.
        **kwargs: Arguments of mmsegmentation's ``SegformerHead``.
    """

    stock_upsampler = 'Bilinear'

    def __init__(
        self, *, upsample_cfg: dict | None = None, plain_projections: bool = False, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        if plain_projections:
            self.convs = ModuleList(
                ConvModule(channels, self.channels, 1, act_cfg=None)
                for channels in self.in_channels
            )
        self.upsamplers = None
        if upsample_cfg is not None:
            levels = len(self.in_channels)
            self.upsamplers = ModuleList(
                build_upsampler(upsample_cfg, self.channels, self.channels)
                for _ in range(levels * (levels - 1) // 2)
            )

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Class logits ``(N, num_classes, h, w)`` at the size of the finest level.

        Args:
            inputs: Backbone features ``(N, C_i, h_i, w_i)``, from fine to coarse.
        """
        if self.upsamplers is None:
            return super().forward(inputs)
        levels = [
            conv(x) for conv, x in zip(self.convs, self._transform_inputs(inputs), strict=True)
        ]
        fused = self.fusion_conv(torch.cat(self._climb(levels), dim=1))
        return self.cls_seg(fused)

    def _climb(self, levels: list[Tensor]) -> list[Tensor]:
        """All levels at the size of the finest, from fine to coarse."""
        upsamplers = iter(self.upsamplers)
        climbed = [levels[0]]
        for start in reversed(range(1, len(levels))):
            x = levels[start]
            for en in reversed(levels[:start]):
                x = next(upsamplers)(en, x)
            climbed.insert(1, x)
        return climbed
