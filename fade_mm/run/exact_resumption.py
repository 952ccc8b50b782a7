"""Exact resumption: what is drawn follows from where in the training it is drawn.

Generators are seeded anew before each iteration, from the run's seed and the iteration's number,
and before each sample, from the seed, the process, the epoch and the sample's place in it. So a
checkpoint need not keep the state of any generator, and it does not matter which worker process
prepares a sample, how many there are, or whether the run was validated in between.
"""

import random
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader, Dataset

from fade_mm.registry import HOOKS

from .data import transforms
from .mmengine_fixes import drop_functions, take_to


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Seeds the iterations of a training, and says what a resumed one does not repeat exactly.

    `CheckedRunner` brings it along.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._batches = 0  # of this epoch, done

    def before_train_epoch(self, runner) -> None:
        """Tell the batches their epoch; go on within one where the checkpoint was written there."""
        positions = runner.train_dataloader.batch_sampler
        if isinstance(runner.train_loop, EpochBasedTrainLoop) and isinstance(positions, Positions):
            positions.begin(runner.epoch, self._batches)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Seed all generators."""
        _seed_generators(runner.seed, runner.iter)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Count."""
        self._batches += 1

    def after_train_epoch(self, runner) -> None:
        """Begin to count anew."""
        self._batches = 0

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Note what exactness depends on."""
        drop_functions(checkpoint)
        checkpoint['meta'].update(batches_of_epoch=self._batches, **_machine())

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Read the notes of a checkpoint that is resumed from."""
        if not runner._resume:
            return
        self._batches = checkpoint['meta'].get('batches_of_epoch', 0)
        take_to(runner.work_dir, checkpoint.get('message_hub', {}).get('runtime_info', {}))
        for reason in inexact(runner, checkpoint):
            runner.logger.warning(f'Resuming is not exact: {reason}.')


def inexact(runner, checkpoint: dict) -> Iterator[str]:
    """Why a run that goes on from a checkpoint will not equal an uninterrupted one.

    Args:
        runner: The runner that resumes.
        checkpoint: What it resumes from.

    Returns:
        Reasons, as clauses without a full stop.
    """
    names = {'optimizer': 'the optimizer', 'param_schedulers': 'the schedules'}
    lost = ' and '.join(name for key, name in names.items() if key not in checkpoint)
    if lost:
        yield (
            f'the checkpoint has no state of {lost}, as the best checkpoints of mmengine have '
            'none; they start anew'
        )
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    done = checkpoint['meta']['iter'] % counts
    if done:
        yield (
            f'the checkpoint lies {done} iterations into an accumulation of gradients over '
            f'{counts}, and gradients are not kept'
        )
    kept = {
        type(x).__name__
        for x in transforms(runner.train_dataloader.dataset)
        if hasattr(x, 'results_cache')
    }
    if kept:
        yield f'{" and ".join(sorted(kept))} mixes in earlier pictures, which are not kept'
    for key, now in _machine().items():
        before = checkpoint['meta'].get(key, now)
        if before != now:
            yield (
                f'{before} {key} before, {now} now'
                if key == 'processes'
                else (
                    f'it was trained on {before}, and goes on on {now}, which may round differently'
                )
            )


def _machine() -> dict:
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f'{torch.get_num_threads()} CPU threads'
    return dict(processes=get_world_size(), device=device)


class Batch(list):
    """The indices of a batch, and its place in the training."""

    def __init__(self, indices: list, place: tuple[int, int]) -> None:
        super().__init__(indices)
        self.place = place

    def __reduce__(self) -> tuple:
        return type(self), (list(self), self.place)


class Positions:
    """A batch sampler whose batches know their epoch and their number in it.

    Args:
        batch_sampler: The sampler that chooses the batches.
    """

    def __init__(self, batch_sampler) -> None:
        self.batch_sampler = batch_sampler
        self.epoch = 0
        self.number = 0  # of the next batch
        self._skipped = 0
        self._stream = None

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getattr__(self, name: str):
        if name.startswith('__') or name == 'batch_sampler':
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __iter__(self) -> Iterator[Batch]:
        stream = self._stream or iter(self.batch_sampler)
        skipped, self._skipped, self._stream = self._skipped, 0, None
        for indices in islice(stream, skipped, None):
            batch = Batch(indices, (self.epoch, self.number))
            self.number += 1
            yield batch

    def begin(self, epoch: int, done: int = 0) -> None:
        """Begin an epoch, of which some batches are done."""
        self.epoch, self.number, self._skipped = epoch, done, done

    def advance(self, batches: int) -> int:
        """Pass over batches without an epoch's end, as iteration-based training draws them.

        Returns:
            How often the sampler ended and began anew.
        """
        self.number, restarts = batches, 0
        self._stream = iter(self.batch_sampler)
        while batches := batches - sum(1 for _ in islice(self._stream, batches)):
            restarts += 1
            if hasattr(self.batch_sampler.sampler, 'set_epoch'):
                self.batch_sampler.sampler.set_epoch(restarts)
            self._stream = iter(self.batch_sampler)
        return restarts


class SeededItems:
    """Reads the samples of a batch, each with the generators seeded by its place.

    Args:
        dataset: What the samples come from.
        seed: The run's seed, the same in all processes.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.rank = get_rank()

    def __call__(self, batch: Batch) -> list:
        # Without worker processes, these are the generators of the training, too.
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            return [self._item(index, (*batch.place, i)) for i, index in enumerate(batch)]
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])

    def _item(self, index, place: tuple[int, int, int]):
        _seed_generators(self.seed, self.rank, *place, of_devices=False)
        return self.dataset[index]


def seed_samples(loader: DataLoader, seed: int) -> None:
    """Let what a loader's samples draw follow from their places, not from worker processes."""
    if loader.batch_sampler is None:
        return
    # What a loader may not be told after it was made; torch asks a data set for `__getitems__`.
    object.__setattr__(loader, 'batch_sampler', Positions(loader.batch_sampler))
    loader.dataset.__getitems__ = SeededItems(loader.dataset, seed)
    loader.generator = torch.Generator().manual_seed(seed)  # else it draws from the training's


def _seed_generators(*numbers: int, of_devices: bool = True) -> None:
    """Seed Python's, numpy's and torch's generators from a few numbers."""
    words = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    seed = int(words[0]) << 32 | int(words[1])
    if of_devices:
        torch.manual_seed(seed)
    else:  # a worker process must not touch a GPU
        torch.default_generator.manual_seed(seed)
