"""The operator as functions of tensors; needs torch alone."""

from .backend import backends, use_backend
from .functional import gated_reassemble, reassemble

__all__ = ['backends', 'gated_reassemble', 'reassemble', 'use_backend']
