"""Metrics that the host libraries lack."""

from .boundary_iou import BoundaryIoUMetric
from .matting import MattingMetric

__all__ = ['BoundaryIoUMetric', 'MattingMetric']
