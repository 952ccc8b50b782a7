"""Label maps as they are in their files."""

from collections.abc import Callable

import mmcv
from mmengine import fileio

from fade_mm.errors import SetupError
from fade_mm.hosts.base import turned


class CheckedLabels:
    """mmsegmentation's transform that reads label maps, after a look at each file.

    What does not fit would be made to: the transform reads labels as 8-bit numbers, and a loss
    resizes predictions to labels of any size.

    Args:
        load: The transform.
    """

    def __init__(self, load: Callable) -> None:
        self.load = load
        self.seen = set()

    def __getattr__(self, name: str):
        if name.startswith('__') or name == 'load':
            raise AttributeError(name)
        return getattr(self.load, name)

    def __call__(self, sample: dict) -> dict:
        path = sample['seg_map_path']
        if path not in self.seen:
            self._check(path, sample)
            self.seen.add(path)
        return self.load(sample)

    def _check(self, path: str, sample: dict) -> None:
        content = fileio.get(path, backend_args=self.load.backend_args)
        labels = mmcv.imfrombytes(content, 'unchanged', backend=self.load.imdecode_backend)
        labels = labels.squeeze()
        if labels.ndim != 2:
            raise SetupError(
                f'{path} has {labels.shape[-1]} channels; a label map has one, whose values are '
                'the numbers of classes (a PNG with a palette has)'
            )
        if labels.max() > 255:
            raise SetupError(f'{path} has label {labels.max()}; labels are 8-bit numbers, 0 to 255')
        size = tuple(sample.get('ori_shape', labels.shape)[:2])
        if size != labels.shape:
            raise SetupError(
                f'{path} has {labels.shape[0]} rows and {labels.shape[1]} columns, its picture '
                f'{sample.get("img_path")} {size[0]} and {size[1]}{turned(sample["img_path"])}'
            )
