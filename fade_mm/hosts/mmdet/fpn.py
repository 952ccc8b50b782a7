"""mmdetection's FPN with upsamplers by config."""

from mmdet.models.necks import FPN as MMDetFPN

from fade_mm.hosts.fpn import UpsamplerFPN
from fade_mm.registry import MODELS


@MODELS.register_module()
class FPN(UpsamplerFPN, MMDetFPN):
    """mmdetection's FPN; see `UpsamplerFPN` for ``upsample_cfg``."""
