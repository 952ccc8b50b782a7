"""mmdetection's PAFPN with upsamplers by config."""

from mmdet.models.necks import PAFPN as MMDetPAFPN
from torch import Tensor

from fade_mm.hosts.fpn import UpsamplerFPN
from fade_mm.registry import MODELS


@MODELS.register_module()
class PAFPN(UpsamplerFPN, MMDetPAFPN):
    """mmdetection's PAFPN; see `UpsamplerFPN` for ``upsample_cfg``, which the host has not."""

    @staticmethod
    def of_host(upsample_cfg: dict) -> dict:
        """Nothing.

        Raises:
            ValueError: it is to interpolate by itself, and not as it does.
        """
        if 'type' not in upsample_cfg and upsample_cfg.get('mode', 'nearest') != 'nearest':
            raise ValueError(
                'PAFPN itself upsamples by nearest-neighbour interpolation alone, got upsample_cfg='
                f"{upsample_cfg!r}; give it a type, e.g. dict(type='bilinear')"
            )
        return {}

    def outputs(self, merged: list[Tensor]) -> list[Tensor]:
        """The bottom-up path: each level, and the finer one at half of its size added to it."""
        finest, *levels = super().outputs(merged)
        outs, x = [finest], finest
        for down, conv, level in zip(self.downsample_convs, self.pafpn_convs, levels, strict=True):
            x = level + down(x)
            outs.append(conv(x))
        return outs
