"""Pictures of what a test predicts, and predictions that are pictures."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import mmcv
import numpy as np
from mmengine.hooks import Hook

from fade_mm.errors import SetupError
from fade_mm.hosts.base import host_of
from fade_mm.registry import HOOKS

from .data import leaves


def distinct_names(paths: Iterable[Path]) -> dict[Path, str]:
    """A name for each file: its stem, or what tells it from others of that stem.

    Args:
        paths: The files.
    """
    paths = list(dict.fromkeys(paths))
    stems = Counter(path.stem for path in paths)
    top = os.path.commonpath([path.absolute().parent for path in paths]) if paths else ''
    return {
        path: path.stem
        if stems[path.stem] == 1
        else os.path.relpath(path.absolute(), top).replace(os.sep, '_')
        for path in paths
    }


class _PictureHook(Hook):
    """Writes a picture for each sample of a test.

    Each is named after its input; where two inputs have one name, after their paths.

    Args:
        folder: Where the pictures go; it must be empty or new.
    """

    _option: str

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise SetupError(f'{folder} is there already; give another folder for pictures')

    def before_test(self, runner) -> None:
        """Find out how the pictures are to be named."""
        data = leaves(runner.test_dataloader.dataset)
        infos = [leaf.get_data_info(i) for leaf in data for i in range(len(leaf))]
        paths = [Path(info['img_path']) for info in infos if info.get('img_path')]
        if len(paths) < len(infos):
            raise SetupError(
                f'{self._option} needs the paths of pictures, which the data set has not'
            )
        self._names = distinct_names(paths)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Write the pictures of a batch."""
        for sample in outputs:
            path = getattr(sample, 'img_path', None)
            if path is None:
                raise SetupError(
                    f"{self._option} needs 'img_path' among the meta_keys of the pipeline"
                )
            written = str(self.folder / f'{self._names[Path(path)]}.png')
            mmcv.imwrite(self.picture(runner, path, sample), written)

    def picture(self, runner, path: str, sample) -> np.ndarray:
        """What is written.

        Args:
            runner: The runner.
            path: The input.
            sample: What was predicted for it.
        """
        raise NotImplementedError


@HOOKS.register_module()
class DrawingHook(_PictureHook):
    """Draws a test's predictions with the host's visualizer, beside the truth if it is known."""

    _option = '--show-dir'

    def before_test(self, runner) -> None:
        """Find out how the pictures are to be named and drawn."""
        super().before_test(runner)
        meta = runner.test_dataloader.dataset.metainfo
        self._visualizer = host_of(runner.model).visualizer(runner.cfg, meta)

    def picture(self, runner, path: str, sample) -> np.ndarray:
        """A drawing, BGR."""
        image = mmcv.imread(path, channel_order='rgb')
        self._visualizer.add_datasample('', image, sample)
        return self._visualizer.get_image()[..., ::-1]


@HOOKS.register_module()
class KeepingHook(_PictureHook):
    """Writes a test's predictions as pictures, as the host says; see `Host.kept`."""

    _option = '--out'

    def before_test(self, runner) -> None:
        """Find out how the pictures are to be named, and whose they are."""
        super().before_test(runner)
        self._host = host_of(runner.model)

    def picture(self, runner, path: str, sample) -> np.ndarray:
        """A prediction."""
        return self._host.kept(runner.cfg, sample)
