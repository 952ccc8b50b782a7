"""What mmdetection's and mmsegmentation's FPN have in common, with upsamplers by config."""

import torch.nn.functional as F
from torch import Tensor

from .base import StandIn
from .top_down import build_top_down, top_down


class UpsamplerFPN(StandIn):
    """Gives a host library's ``FPN`` upsamplers; put it before the host class.

    Args:
        upsample_cfg: With a ``type``, the config of the upsamplers (see `build_upsampler`; FADE's
            gate is off unless asked for, since the neck adds the lateral feature itself).
            Without one, the arguments of the host's own interpolation, and the neck is the
            host's. Default: ``dict(mode='nearest')``.
        *args, **kwargs: Arguments of the host's ``FPN``.
    """

    stock_upsampler = 'Nearest'

    def __init__(self, *args, upsample_cfg: dict | None = None, **kwargs) -> None:
        upsample_cfg = {'mode': 'nearest'} if upsample_cfg is None else upsample_cfg
        if not isinstance(upsample_cfg, dict):
            raise TypeError(
                f"upsample_cfg must be a dict, e.g. dict(type='fade'), got {upsample_cfg!r}"
            )
        super().__init__(*args, **self.of_host(upsample_cfg), **kwargs)
        self.upsamplers = None
        if 'type' in upsample_cfg:
            self.upsamplers = build_top_down(
                upsample_cfg, self.out_channels, len(self.lateral_convs)
            )

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pyramid features, from fine to coarse.

        Args:
            inputs: Backbone features ``(N, in_channels[i], h_i, w_i)``, from fine to coarse.

        Returns:
            ``num_outs`` features of ``out_channels`` channels.
        """
        if self.upsamplers is None:
            return super().forward(inputs)
        if len(inputs) != self.num_ins:
            raise ValueError(f'expected {self.num_ins} backbone features, got {len(inputs)}')
        used = inputs[self.start_level : self.backbone_end_level]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        laterals = top_down(laterals, self.upsamplers)
        outs = self.outputs(laterals)
        if not self.add_extra_convs:
            while len(outs) < self.num_outs:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            return tuple(outs)
        source = {'on_input': used[-1], 'on_lateral': laterals[-1], 'on_output': outs[-1]}
        x = source[self.add_extra_convs]
        for conv in self.fpn_convs[len(laterals) :]:
            outs.append(conv(x))
            x = F.relu(outs[-1]) if self.relu_before_extra_convs else outs[-1]
        return tuple(outs)

    @staticmethod
    def of_host(upsample_cfg: dict) -> dict:
        """What the host class is told of ``upsample_cfg``.

        Args:
            upsample_cfg: As the neck was given it.
        """
        return {'upsample_cfg': upsample_cfg}

    def outputs(self, merged: list[Tensor]) -> list[Tensor]:
        """What the neck makes of the levels that are merged already, before extra ones.

        Args:
            merged: Features of ``out_channels`` channels, from fine to coarse.
        """
        return [conv(x) for conv, x in zip(self.fpn_convs, merged, strict=False)]
