"""The old place of `fade_mm.hosts.mmdet.fpn`."""

from fade_mm.hosts.mmdet.fpn import FPN

__all__ = ['FPN']
