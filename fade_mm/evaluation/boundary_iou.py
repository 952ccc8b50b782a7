"""The old place of `fade_mm.metrics.boundary_iou`."""

from fade_mm.metrics.boundary_iou import BoundaryIoUMetric, boundary_areas, boundary_band

__all__ = ['BoundaryIoUMetric', 'boundary_areas', 'boundary_band']
