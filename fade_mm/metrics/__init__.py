"""Metrics that the host libraries lack."""

from .boundary_iou import BoundaryIoUMetric
from .depth import DepthMetric

__all__ = ['BoundaryIoUMetric', 'DepthMetric']
