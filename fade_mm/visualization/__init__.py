"""Pictures of what upsamplers do."""

from .upsamplers import UpsamplerView, overlay, watch_upsamplers

__all__ = ['UpsamplerView', 'overlay', 'watch_upsamplers']
