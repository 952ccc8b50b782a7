"""Checkpoints that tools write."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from fade_mm.errors import SetupError


def check_output(path: Path) -> None:
    """Raise where a file cannot be written without replacing another.

    Raises:
        SetupError: with what to change.
    """
    if path.exists():
        raise SetupError(f'{path} exists; remove it, or give another name')
    if not path.parent.is_dir():
        raise SetupError(f'there is no folder {path.parent} to write {path.name} into')
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise SetupError(f'{path.parent} is not writable; give another folder')


def save_checkpoint(content: dict, path: Path) -> None:
    """Write a checkpoint; the file appears when it is complete."""
    with TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        torch.save(content, written)
        os.replace(written, path)
