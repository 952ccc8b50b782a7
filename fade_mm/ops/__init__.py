"""The operator as functions of tensors; needs torch alone."""

from .functional import gated_reassemble, reassemble

__all__ = ['gated_reassemble', 'reassemble']
