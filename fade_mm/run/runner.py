"""mmengine's runner with its data sets checked before any time is spent."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import FUNCTIONS, OPTIMIZERS, Registry
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from fade_mm.errors import SetupError, naming_build_errors
from fade_mm.hosts.base import Host, host_of, unwrapped

from . import mmengine_fixes
from .checkpoint import (
    CheckpointFitHook,
    check_pretrained,
    read_checkpoint,
    use_safe_checkpoints,
)
from .classes import check_classes
from .config import add_hook, check_loops, check_weights
from .data import NamingPipeline, check_class_names, check_files, leaves, naming_annotations
from .exact_resumption import Positions, RandomStateHook, seed_samples

_SPLITS = ('train', 'val', 'test')
_FOR_THE_FILE = ('Config:', 'Hooks will be executed', 'paramwise_options', '\n---------')


class CheckedRunner(Runner):
    """A `Runner` that stops before training when files or classes do not fit, and says which.

    What it draws at random follows from the seed and from where in the training it is drawn, so
    that a resumed run repeats it exactly.
    """

    resumed: dict | None = (
        None  # the checkpoint that a training goes on from, if it is read already
    )

    @cached_property
    def host(self) -> Host:
        """What answers for the model."""
        return host_of(self.model)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build the logger; environment, config and hooks are for its file alone."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(lambda record: not str(record.msg).startswith(_FOR_THE_FILE))
            elif isinstance(handler, logging.FileHandler):
                logger.info(f'Environment, config and hooks are in {handler.baseFilename}')
        return logger

    def build_dataloader(
        self, dataloader: dict | DataLoader, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose files exist and whose errors name the file.

        Raises:
            SetupError: a folder, an annotation file, an image or a label is missing, or an
                annotation file is none.
        """
        if diff_rank_seed and seed is not None:  # samples differ by process anyway
            seed -= get_rank()
        place = self._place(dataloader, 'dataloader')
        check_class_names(dataloader, place)
        if isinstance(dataloader, dict):
            for key in ('collate_fn', 'worker_init_fn'):
                self._check_name(dataloader.get(key), FUNCTIONS)
        checked = self.cfg.get('check_classes', True)
        with (
            _naming_missing_files(place),
            naming_annotations(place),
            mmengine_fixes.naming_empty_data(dataloader, place),
            self.host.noting_names(place) if checked else nullcontext(),
        ):
            loader = super().build_dataloader(dataloader, seed)
        for dataset in leaves(loader.dataset):
            check_files(dataset, place)
            if checked:
                self.host.check_dataset(dataset, place)
            self.host.watch(dataset)
            dataset.pipeline = NamingPipeline(dataset.pipeline, dataset, self.host)
        if seed is not None and loader is not dataloader:
            seed_samples(loader, seed)
        return loader

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop; one that goes on reads none of the batches before."""
        by_iterations = self.resumed and isinstance(loop, dict) and 'max_iters' in loop
        if not by_iterations or isinstance(self._train_dataloader, DataLoader):
            return super().build_train_loop(loop)
        self._train_dataloader = self.build_dataloader(
            self._train_dataloader, self.seed, self._randomness_cfg.get('diff_rank_seed', False)
        )
        if not isinstance(self._train_dataloader.batch_sampler, Positions):
            return super().build_train_loop(loop)  # mmengine reads what was read before
        done = self.resumed['meta']['iter']
        restarts = self._train_dataloader.batch_sampler.advance(done)
        loop = super().build_train_loop(loop)
        loop.dataloader_iterator._epoch = restarts
        loop.dataloader_iterator = mmengine_fixes.Advanced(loop.dataloader_iterator, done)
        return loop

    def train(self) -> nn.Module:
        """Train, with every iteration seeded by its number."""
        self.register_hook(RandomStateHook())
        return super().train()

    def _init_model_weights(self) -> None:
        super()._init_model_weights()
        starts = not self._resume and self._load_from is None
        if starts and self.cfg.get('check_pretrained', True):
            check_pretrained(unwrapped(self.model))

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model.

        Raises:
            SetupError: a name or an argument in its config is wrong, or a library is missing.
        """
        with naming_build_errors():
            built = super().build_model(model)
        mmengine_fixes.watch_channels(built)
        return built

    def build_optim_wrapper(self, optim_wrapper):
        """Build the optimizer.

        Raises:
            SetupError: no optimizer has the name that is asked for.
        """
        if isinstance(optim_wrapper, dict):
            self._check_name(optim_wrapper.get('optimizer'), OPTIMIZERS)
        return super().build_optim_wrapper(optim_wrapper)

    def build_evaluator(self, evaluator) -> Evaluator:
        """Build an evaluator whose files exist.

        Raises:
            SetupError: its annotation file is missing.
        """
        with _naming_missing_files(self._place(evaluator, 'evaluator')):
            return super().build_evaluator(evaluator)

    def _check_name(self, node: object, registry: Registry) -> None:
        mmengine_fixes.check_name(node, registry, self.cfg.get('default_scope'))

    def _place(self, part: object, kind: str) -> str:
        """The key of the config that a part of one of the loops is from, for messages."""
        places = [f'{split}_{kind}' for split in _SPLITS]
        return next((x for x in places if getattr(self, f'_{x}', None) is part), kind)

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load a checkpoint, once, and say so, once.

        Args:
            filename: Path or URL.
            *args, **kwargs: mmengine's, where no `CheckpointFitHook` does the loading.

        Raises:
            SetupError: it cannot be read, or does not fit the model.
        """
        hook = next((x for x in self.hooks if isinstance(x, CheckpointFitHook)), None)
        if hook is None:
            return super().load_checkpoint(filename, *args, **kwargs)
        checkpoint, self.resumed = self.resumed or read_checkpoint(filename), None
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        self._has_loaded = True
        kept = ''.join(f'\n  {key}' for key in hook.kept)
        self.logger.info(
            f'Loaded {filename}' + (f'; not in it, trained anew:{kept}' if kept else '')
        )
        return checkpoint

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call the hooks; the first time in a run, check the classes, if the config lets it.

        Raises:
            SetupError: classes do not fit, or a hook goes by a score that there is not.
        """
        if fn_name == 'before_run':
            self._check_classes()
        if fn_name == 'after_val_epoch' and kwargs.get('metrics'):
            mmengine_fixes.check_scores(self.hooks, kwargs['metrics'])
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_run':
            mmengine_fixes.separate_logs(self)

    def _check_classes(self) -> None:
        if not self.cfg.get('check_classes', True):
            return
        for split in _SPLITS:
            loop = getattr(self, f'_{split}_loop')
            if loop is not None and not isinstance(loop, dict):
                check_classes(self.model, loop.dataloader.dataset, f'{split}_dataloader')


def evaluate(cfg: Config, checkpoint: str) -> dict[str, float]:
    """Test a checkpoint, which must fit the config's model, on the config's test set.

    Args:
        cfg: From `load_config`; receives the checkpoint and a hook that checks its fit.
        checkpoint: Its path or URL.

    Returns:
        The metrics, by the names that the config's evaluators give them.

    Raises:
        SetupError: the checkpoint, a package, the test set or a file of it is missing, or does not
            fit.
    """
    use_safe_checkpoints()
    check_weights([checkpoint])
    check_loops(cfg, 'test')
    host_of(cfg).check_run(cfg)
    cfg.load_from, cfg.resume = checkpoint, False
    add_hook(cfg, type='fade_mm.CheckpointFitHook')
    mmengine_fixes.join_processes(cfg.launcher)
    return _TestRunner.from_cfg(cfg).test()


class _TestRunner(CheckedRunner):
    """A runner for tests alone."""

    def dump_config(self) -> None:
        """Keep a copy of the config; but that of a training stays as it was trained."""
        if not Path(self.work_dir, Path(self.cfg.filename or '').name).is_file():
            super().dump_config()


@contextmanager
def _naming_missing_files(place: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SetupError(
            f'{place}: the data set is not there: {error}\nPut it there, or say where it is with '
            '--cfg-options train_dataloader.dataset.data_root=DIR '
            'val_dataloader.dataset.data_root=DIR test_dataloader.dataset.data_root=DIR '
            '(and val_evaluator.ann_file=FILE test_evaluator.ann_file=FILE, where there are any)'
        ) from error
