"""mmsegmentation's FPN with upsamplers by config."""

from mmseg.models.necks import FPN as MMSegFPN

from fade_mm.registry import MODELS

from .upsampler_fpn import UpsamplerFPNMixin


@MODELS.register_module()
class SegFPN(UpsamplerFPNMixin, MMSegFPN):
    """mmsegmentation's FPN neck; see `UpsamplerFPNMixin` for ``upsample_cfg``."""
