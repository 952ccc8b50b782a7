"""mmengine's runner with its data sets checked before any time is spent."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator
from mmengine.hooks import LoggerHook
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from .checkpoint import use_safe_checkpoints
from .classes import check_classes
from .config import add_hook, check_loops, check_packages, check_weights, join_processes
from .data import NamingPipeline, check_files, leaves
from .errors import SetupError, naming_build_errors
from .random_state import Advanced, Positions, RandomStateHook, seed_samples


class CheckedRunner(Runner):
    """A `Runner` that stops before training when files or classes do not fit, and says which.

    What it draws at random follows from the seed and from where in the training it is drawn, so
    that a resumed run repeats it exactly.
    """

    resumed_iteration = 0  # where an iteration-based training goes on, if that is known beforehand

    @staticmethod
    def build_dataloader(
        dataloader: dict | DataLoader, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose files exist and whose errors name the file.

        Raises:
            SetupError: a folder, an annotation file, an image or a label is missing.
        """
        if diff_rank_seed and seed is not None:  # samples differ by process anyway
            seed -= get_rank()
        try:
            with _names_missing_files():
                loader = Runner.build_dataloader(dataloader, seed)
        except ValueError as error:
            if 'need at least one array' not in str(error):  # what mmengine makes of no samples
                raise
            config = {k: v for k, v in dataloader['dataset'].items() if k != 'pipeline'}
            raise SetupError(
                f'the data set has no samples: {config}; check its folders, the suffixes of its '
                'file names, and that metainfo.classes names the categories of its annotations'
            ) from error
        for dataset in leaves(loader.dataset):
            check_files(dataset)
            dataset.pipeline = NamingPipeline(dataset.pipeline, dataset)
        if seed is not None and loader is not dataloader:
            seed_samples(loader, seed)
        return loader

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop; one that goes on reads none of the batches before."""
        done = self.resumed_iteration if isinstance(loop, dict) and 'max_iters' in loop else 0
        if not done or isinstance(self._train_dataloader, DataLoader):
            return super().build_train_loop(loop)
        self._train_dataloader = self.build_dataloader(
            self._train_dataloader, self.seed, self._randomness_cfg.get('diff_rank_seed', False)
        )
        if not isinstance(self._train_dataloader.batch_sampler, Positions):
            return super().build_train_loop(loop)  # mmengine reads what was read before
        restarts = self._train_dataloader.batch_sampler.advance(done)
        loop = super().build_train_loop(loop)
        loop.dataloader_iterator._epoch = restarts
        loop.dataloader_iterator = Advanced(loop.dataloader_iterator, done)
        return loop

    def train(self) -> nn.Module:
        """Train, with every iteration seeded by its number."""
        self.register_hook(RandomStateHook())
        return super().train()

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
        """Call the hooks; the first time in a run, check the classes, if the config lets it.

        Every process of mmengine's writes the test's metrics, all into one file at the same time.
        Here the first process alone has that file; the others get one each.
        """
        if fn_name == 'before_run':
            self._check_classes()
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_run' and self.rank:
            for hook in self.hooks:
                if isinstance(hook, LoggerHook):
                    hook.json_log_path = f'{self.timestamp}.rank{self.rank}.json'

    def _check_classes(self) -> None:
        if not self.cfg.get('check_classes', True):
            return
        for split in ('train', 'val', 'test'):
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
