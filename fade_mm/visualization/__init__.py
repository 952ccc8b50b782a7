"""Pictures of what upsamplers do."""

from .hook import UpsamplerVisualizationHook
from .upsamplers import UpsamplerView, overlay, slides, watch_upsamplers

__all__ = ['UpsamplerView', 'UpsamplerVisualizationHook', 'overlay', 'slides', 'watch_upsamplers']
