"""Metrics that the host libraries lack."""

from .boundary_ap import BoundaryAPMetric
from .boundary_iou import BoundaryIoUMetric

__all__ = ['BoundaryAPMetric', 'BoundaryIoUMetric']
