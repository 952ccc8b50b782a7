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


@HOOKS.register_module()
class DrawingHook(Hook):
    """Draws a test's predictions with the runner's visualizer, beside the truth if it is known.

    Each picture is named after its input; where two inputs have one name, after their paths.

    Args:
        folder: Where the pictures go; it must be empty or new.
    """

    option = '--show-dir'  # of the tool, for messages

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise SetupError(f'{folder} is there already; give another folder for pictures')

    def before_test(self, runner) -> None:
        """Find out how the pictures are to be named; raise where samples will not tell."""
        data = list(leaves(runner.test_dataloader.dataset))
        for leaf in data:
            self._path(_packed(leaf[0]))
        meta = runner.test_dataloader.dataset.metainfo
        self._visualizer = host_of(runner.model).visualizer(runner.cfg, meta)
        infos = [leaf.get_data_info(i) for leaf in data for i in range(len(leaf))]
        paths = [Path(info['img_path']) for info in infos if info.get('img_path')]
        self._names = distinct_names(paths)
        self._written = Counter()

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Write the pictures of a batch."""
        for index, sample in enumerate(outputs):
            path = self._path(sample)
            if path.is_file():
                picture = mmcv.imread(str(path))
            else:  # a sample that is made
                made = dict(inputs=data_batch['inputs'][index], data_samples=sample)
                picture = host_of(runner.model).picture_of(made)
            mmcv.imwrite(self._drawn(runner, sample, picture), str(self._file(path)))

    def _path(self, sample) -> Path:
        """The path of a sample's picture."""
        path = getattr(sample, 'img_path', None)
        if path is None:
            raise SetupError(f"{self.option} needs 'img_path' among the meta_keys of the pipeline")
        return Path(path)

    def _file(self, path: Path) -> Path:
        """The file for a sample's picture; a sample that is made has a name that may recur."""
        name = self._names.get(path, path.stem)
        self._written[name] += 1
        number = f'_{self._written[name]}' if self._written[name] > 1 else ''
        return self.folder / f'{name}{number}.png'

    def _drawn(self, runner, sample, picture: np.ndarray) -> np.ndarray:
        self._visualizer.add_datasample('', picture[..., ::-1], sample)
        return self._visualizer.get_image()[..., ::-1]


def _packed(sample: dict):
    """The data sample in what a pipeline gives; the first one of an augmented picture."""
    packed = sample['data_samples']
    return packed[0] if isinstance(packed, list) else packed


@HOOKS.register_module()
class PredictionHook(DrawingHook):
    """Writes a test's predictions, where they are pictures, by the names of their inputs.

    Args:
        folder: Where the pictures go; it must be empty or new.
    """

    option = '--out'

    def _drawn(self, runner, sample, picture: np.ndarray) -> np.ndarray:
        return host_of(runner.model).as_picture(runner.cfg, sample)
