"""The old name of `fade_mm.ops.backend`."""

from .backend import available_backends, backends, preferred_backend, use_backend

__all__ = ['available_backends', 'backends', 'preferred_backend', 'use_backend']
