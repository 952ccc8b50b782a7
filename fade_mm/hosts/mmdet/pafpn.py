"""mmdetection's PAFPN with upsamplers by config."""

from mmdet.models.necks import PAFPN as MMDetPAFPN
from torch import Tensor

from fade_mm.hosts.fpn import UpsamplerFPN
from fade_mm.registry import MODELS


class _NearestPAFPN(MMDetPAFPN):
    """The host's, with the argument that its FPN has and it has not."""

    def __init__(self, *args, upsample_cfg: dict, **kwargs) -> None:
        if 'type' not in upsample_cfg and upsample_cfg != {'mode': 'nearest'}:
            raise ValueError(
                'PAFPN itself upsamples by nearest-neighbour interpolation alone, got upsample_cfg='
                f"{upsample_cfg!r}; give it a type, e.g. dict(type='bilinear')"
            )
        super().__init__(*args, **kwargs)


@MODELS.register_module()
class PAFPN(UpsamplerFPN, _NearestPAFPN):
    """mmdetection's PAFPN; see `UpsamplerFPN` for ``upsample_cfg``, which the host has not."""

    def outputs(self, merged: list[Tensor]) -> list[Tensor]:
        """The bottom-up path: each level, added to the finer one at half of its size."""
        finest, *levels = super().outputs(merged)
        outs, x = [finest], finest
        paths = zip(self.downsample_convs, self.pafpn_convs, levels, strict=True)
        for down, conv, level in paths:
            x = level + down(x)
            outs.append(conv(x))
        return outs
