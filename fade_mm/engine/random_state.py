"""Exact resumption: the random state belongs to a checkpoint."""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from fade_mm.registry import HOOKS


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Saves the random state in checkpoints and restores it on resumption.

    mmengine restores weights, optimizer and schedule, and replays the data loader, but dropout
    would go on with other numbers. Validation draws from the generator too; its draws are undone,
    so that how often a run is validated does not change what it learns.

    The state is that of the first process; the others start from the same seed, unless
    ``randomness.diff_rank_seed`` is set.

    In iteration-based training mmengine's replay of the data brings the generators of numpy and
    Python to where they were, so torch's alone is restored.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._before_val = None
        self._resumed = None

    def before_val(self, runner) -> None:
        """Remember the state."""
        self._before_val = _state()

    def after_val(self, runner) -> None:
        """Go back to the state before validation."""
        _restore(self._before_val)
        self._before_val = None

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put the state into the checkpoint."""
        checkpoint['random_state'] = self._before_val or _state()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take the state out of a checkpoint that is resumed from."""
        self._resumed = checkpoint.get('random_state') if runner._resume else None

    def before_train_epoch(self, runner) -> None:
        """Restore all of it before the first epoch draws from it."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop) and self._resumed:
            _restore(self._resumed)
            self._resumed = None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Restore torch's once the data has been replayed."""
        if self._resumed:
            _restore({name: self._resumed[name] for name in ('torch', 'cuda')})
            self._resumed = None


def _state() -> dict:
    return {
        'python': random.getstate(),
        'numpy': np.random.get_state(),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all(),
    }


def _restore(state: dict) -> None:
    if 'python' in state:
        random.setstate(state['python'])
        np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())
    if len(state['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([x.cpu() for x in state['cuda']])
