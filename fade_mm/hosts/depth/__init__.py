"""mmsegmentation: monocular depth."""

from collections.abc import Iterator

from torch import nn

from fade_mm.hosts.mmseg import MMSegHost
from fade_mm.registry import HOSTS


@HOSTS.register_module()
class DepthHost(MMSegHost):
    """Monocular depth with mmsegmentation."""

    models = ('mmseg.models.segmentors.depth_estimator.DepthEstimator',)
    stand_ins = {'BTSHead': 'bts_head', 'ResNet': 'resnet', 'UNetDepthHead': 'unet_head'}
    needs = {}
    task = 'depth'
    names = {'BTSHead': 'BTS', 'UNetDepthHead': 'U-Net'}

    def class_heads(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        return iter(())
