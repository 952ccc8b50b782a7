"""Host libraries: one folder each for what fade_mm knows about a task of a library.

`host_of` alone decides which one a config belongs to. Importing this package imports no library.
"""

from fade_mm import registry  # noqa: F401  (says what to install where mmengine is missing)

from . import depth, matting, mmdet, mmseg  # noqa: F401  (they register themselves)
from .base import Host, StandIn, host_of, start_upsamplers

__all__ = ['Host', 'StandIn', 'host_of', 'start_upsamplers']
