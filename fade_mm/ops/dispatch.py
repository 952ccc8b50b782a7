"""The old name of `fade_mm.ops.backend`."""

from torch import Tensor

from . import backend
from .backend import (
    BACKENDS,
    available_backends,
    backends,
    check_backend,
    preferred_backend,
    use_backend,
)

__all__ = [
    'BACKENDS',
    'available_backends',
    'backends',
    'check_backend',
    'preferred_backend',
    'select',
    'use_backend',
]


def select(name: str | None, *tensors: Tensor | None) -> backend.Backend:
    """`backend.select` within `use_backend`, of tensors of which some may be None."""
    with use_backend(name):
        return backend.select(*(x for x in tensors if x is not None))
