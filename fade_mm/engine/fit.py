"""The old place of `fade_mm.run.checkpoint`."""

from fade_mm.run.checkpoint import CheckpointFitHook, load_checkpoint, load_fitting

__all__ = ['CheckpointFitHook', 'load_checkpoint', 'load_fitting']
