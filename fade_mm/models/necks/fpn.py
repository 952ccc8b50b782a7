"""mmdetection's FPN with upsamplers by config."""

from mmdet.models.necks import FPN as MMDetFPN

from fade_mm.registry import MODELS

from .upsampler_fpn import UpsamplerFPNMixin


@MODELS.register_module()
class FPN(UpsamplerFPNMixin, MMDetFPN):
    """mmdetection's FPN; see `UpsamplerFPNMixin` for ``upsample_cfg``."""
