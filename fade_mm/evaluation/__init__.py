"""The old place of `fade_mm.metrics`."""

from fade_mm.metrics import BoundaryIoUMetric

__all__ = ['BoundaryIoUMetric']
