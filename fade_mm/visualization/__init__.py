"""The old place of `fade_mm.analysis.views` and of `fade_mm.analysis.hooks`."""

from fade_mm.analysis.hooks import UpsamplerVisualizationHook
from fade_mm.analysis.views import UpsamplerView, overlay, watch_upsamplers

__all__ = ['UpsamplerView', 'UpsamplerVisualizationHook', 'overlay', 'watch_upsamplers']
