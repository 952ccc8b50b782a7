"""Metrics that the host libraries lack."""

from fade_mm import registry  # noqa: F401  (says what to install, if mmengine is missing)

from .boundary_ap import BoundaryAPMetric
from .boundary_iou import BoundaryIoUMetric
from .depth import DepthMetric
from .matting import MattingMetric

__all__ = ['BoundaryAPMetric', 'BoundaryIoUMetric', 'DepthMetric', 'MattingMetric']
