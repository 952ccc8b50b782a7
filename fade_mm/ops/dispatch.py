"""The old name of `fade_mm.ops.backend`."""

from .backend import BACKENDS, available_backends, backends, preferred_backend, use_backend

__all__ = ['BACKENDS', 'available_backends', 'backends', 'preferred_backend', 'use_backend']
