"""mmsegmentation's FPN with upsamplers by config."""

from mmseg.models.necks import FPN as MMSegFPN

from fade_mm.hosts.fpn import UpsamplerFPN
from fade_mm.registry import MODELS


@MODELS.register_module()
class SegFPN(UpsamplerFPN, MMSegFPN):
    """mmsegmentation's FPN neck; see `UpsamplerFPN` for ``upsample_cfg``."""
