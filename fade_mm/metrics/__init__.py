"""Metrics that the host libraries lack."""

from .boundary_iou import BoundaryIoUMetric

__all__ = ['BoundaryIoUMetric']
