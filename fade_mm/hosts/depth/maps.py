"""Depth maps as they are in their files."""

import io
from collections.abc import Callable

from mmengine import fileio
from PIL import Image, UnidentifiedImageError

from fade_mm.errors import SetupError
from fade_mm.hosts.base import turned

_CONVERTER = 'tools/dataset_converters/depth_from_8bit.py'


class CheckedDepth:
    """mmsegmentation's transform that reads depth maps, after a look at each file's header.

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
        path = sample['depth_map_path']
        if path not in self.seen:
            self._check(path, sample)
            self.seen.add(path)
        return self.load(sample)

    def _check(self, path: str, sample: dict) -> None:
        content = fileio.get(path, backend_args=self.load.backend_args)
        try:
            with Image.open(io.BytesIO(content)) as picture:
                mode, size = picture.mode, picture.size[::-1]
        except UnidentifiedImageError:  # numpy's, or another format that the transform knows
            return
        if mode in ('1', 'L', 'P'):
            raise SetupError(
                f'{path} has 8 bits a pixel, too few for depth: write PNGs of 16 bits, whose '
                f'values times depth_rescale_factor are metres ({_CONVERTER} makes them of maps '
                'with a scale for each)'
            )
        if not mode.startswith(('I', 'F')):
            raise SetupError(f'{path} has colours ({mode}); a depth map has one channel of 16 bits')
        expected = tuple(sample.get('ori_shape', size)[:2])
        if size != expected:
            raise SetupError(
                f'{path} has {size[0]} rows and {size[1]} columns, its picture '
                f'{sample.get("img_path")} {expected[0]} and {expected[1]}'
                f'{turned(sample["img_path"])}'
            )
