"""mmengine's runner with its data sets checked before any time is spent."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.hooks import LoggerHook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from .checkpoint import use_safe_checkpoints
from .config import add_hook, check_packages, check_weights, join_processes
from .errors import SetupError, naming_build_errors


class CheckedRunner(Runner):
    """A `Runner` that stops before training when files or classes do not fit, and says which."""

    @staticmethod
    def build_dataloader(dataloader: dict | DataLoader, *args, **kwargs) -> DataLoader:
        """Build a data loader whose files exist and whose errors name the file.

        Raises:
            SetupError: a folder, an annotation file, an image or a label is missing.
        """
        try:
            with _names_missing_files():
                loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        except ValueError as error:
            if 'need at least one array' not in str(error):  # what mmengine makes of no samples
                raise
            config = {k: v for k, v in dataloader['dataset'].items() if k != 'pipeline'}
            raise SetupError(
                f'the data set has no samples: {config}; check its folders, the suffixes of its '
                'file names, and that metainfo.classes names the categories of its annotations'
            ) from error
        for dataset in _leaves(loader.dataset):
            _check_files(dataset)
            dataset.pipeline = _NamingPipeline(dataset.pipeline, dataset)
        return loader

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model.

        Raises:
            SetupError: a name or an argument in its config is wrong, or a library is missing.
        """
        with naming_build_errors():
            return super().build_model(model)

    def build_evaluator(self, evaluator) -> Evaluator:
        """Build an evaluator whose files exist.

        Raises:
            SetupError: its annotation file is missing.
        """
        with _names_missing_files():
            return super().build_evaluator(evaluator)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call the hooks; the first time in a run, check the classes.

        Every process of mmengine's writes the test's metrics, all into one file at the same time.
        Here the first process alone has that file; the others get one each.
        """
        if fn_name == 'before_run':
            for loop in (self._train_loop, self._val_loop, self._test_loop):
                if loop is not None and not isinstance(loop, dict):
                    check_classes(self.model, loop.dataloader.dataset)
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_run' and self.rank:
            for hook in self.hooks:
                if isinstance(hook, LoggerHook):
                    hook.json_log_path = f'{self.timestamp}.rank{self.rank}.json'


def evaluate(cfg: Config, checkpoint: str) -> dict[str, float]:
    """Test a checkpoint, which must fit the config's model, on the config's test set.

    Args:
        cfg: From `load_config`; receives the checkpoint and a hook that checks its fit.
        checkpoint: Its path or URL.

    Returns:
        The metrics, by the names that the config's evaluators give them.

    Raises:
        SetupError: the checkpoint, a package or a file of the data set is missing, or does not fit.
    """
    use_safe_checkpoints()
    check_weights([checkpoint])
    check_packages(cfg)
    cfg.load_from, cfg.resume = checkpoint, False
    add_hook(cfg, type='fade_mm.CheckpointFitHook')
    join_processes(cfg.launcher)
    return CheckedRunner.from_cfg(cfg).test()


@contextmanager
def _names_missing_files() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SetupError(
            f'the data set is not there: {error}\nPut it there, or say where it is with '
            '--cfg-options train_dataloader.dataset.data_root=DIR '
            'val_dataloader.dataset.data_root=DIR test_dataloader.dataset.data_root=DIR '
            '(for detection also val_evaluator.ann_file=FILE test_evaluator.ann_file=FILE)'
        ) from error


def check_classes(model: nn.Module, dataset) -> None:
    """Raise unless the heads of a model have as many classes as the data set.

    Left alone are heads that propose regions or predict stuff or edges beside, panoptic data
    sets, and models that read class names from text.

    Raises:
        SetupError: the numbers differ.
    """
    meta = getattr(dataset, 'metainfo', {})
    classes = meta.get('classes')
    if not classes or 'thing_classes' in meta or hasattr(model, 'language_model'):
        return
    for name, head in model.named_modules():
        count = getattr(head, 'num_classes', None)
        kind = type(head).__name__
        if not kind.endswith('Head') or 'RPN' in kind or name.endswith('rpn_head'):
            continue
        if 'Semantic' in kind or kind == 'STDCHead':
            continue
        if count is not None and count != len(classes):
            raise SetupError(
                f'model.{name}.num_classes is {count}, but the data set has {len(classes)} '
                f'classes ({", ".join(classes[:5])}{", ..." if len(classes) > 5 else ""}); set '
                f"model.{name}.num_classes={len(classes)}, or the data set's metainfo.classes"
            )


class _NamingPipeline:
    """A data pipeline whose errors name the files that it was working on."""

    def __init__(self, pipeline: Callable, dataset: BaseDataset) -> None:
        self.pipeline = pipeline
        self.classes = len(dataset.metainfo.get('classes') or ())
        self.ignore_index = getattr(dataset, 'ignore_index', None)

    def __getattr__(self, name: str):
        if name.startswith('__') or name == 'pipeline':
            raise AttributeError(name)
        return getattr(self.pipeline, name)

    def __call__(self, sample: dict):
        files = [sample[key] for key in ('img_path', 'seg_map_path') if sample.get(key)]
        try:
            result = self.pipeline(sample)
        except Exception as error:
            raise SetupError(
                f'cannot read or transform {" with ".join(files) or "a sample"}: '
                f'{type(error).__name__}: {error}'
            ) from error
        self._check_labels(result, files)
        return result

    def _check_labels(self, result, files: list[str]) -> None:
        packed = result.get('data_samples') if isinstance(result, dict) else None
        if self.ignore_index is None or not self.classes:
            return  # no data set of mmsegmentation
        if packed is None or 'gt_sem_seg' not in packed:
            return
        labels = packed.gt_sem_seg.data
        labels = labels[labels != self.ignore_index]
        if labels.numel() and labels.max() >= self.classes:
            raise SetupError(
                f'{files[-1]} has label {labels.max()}, but the data set has {self.classes} '
                f'classes, 0 to {self.classes - 1}, and {self.ignore_index} for ignored pixels'
            )


def _leaves(dataset) -> Iterator[BaseDataset]:
    """The data sets inside of any wrappers."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for item in inner:
        if item is not None:
            yield from _leaves(item)
    if inner == [None] and isinstance(dataset, BaseDataset):
        yield dataset


def _check_files(dataset: BaseDataset) -> None:
    """Raise unless each local file of a data set exists."""
    missing = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        for key in ('img_path', 'seg_map_path'):
            path = info.get(key)
            if path and '://' not in path and not os.path.isfile(path):
                missing.append(path)
    if missing:
        raise SetupError(
            f'{len(missing)} files of the data set are missing, the first ones being\n  '
            + '\n  '.join(missing[:5])
        )
