"""Checkpoints: read as data, and loaded into models that they fit."""

from .guard import read_checkpoint, use_safe_checkpoints
from .loading import (
    CheckpointFitHook,
    check_pretrained,
    load_checkpoint,
    load_fitting,
)

__all__ = [
    'CheckpointFitHook',
    'check_pretrained',
    'load_checkpoint',
    'load_fitting',
    'read_checkpoint',
    'use_safe_checkpoints',
]
