"""Checkpoints: read as data, and loaded into models that they fit."""

from .loading import (
    CheckpointFitHook,
    check_pretrained,
    load_checkpoint,
    load_fitting,
)
from .safe_loading import read_checkpoint, use_safe_checkpoints
from .saving import check_output, save_checkpoint

__all__ = [
    'CheckpointFitHook',
    'check_output',
    'check_pretrained',
    'load_checkpoint',
    'load_fitting',
    'read_checkpoint',
    'save_checkpoint',
    'use_safe_checkpoints',
]
