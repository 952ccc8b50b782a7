"""Pictures of what upsamplers do."""

from .hook import UpsamplerVisualizationHook
from .upsamplers import UpsamplerView, overlay, watch_upsamplers

__all__ = ['UpsamplerView', 'UpsamplerVisualizationHook', 'overlay', 'watch_upsamplers']
