"""Depth maps as they are in their files."""

import io

from PIL import Image, UnidentifiedImageError

from fade_mm.errors import SetupError
from fade_mm.hosts.checked_loading import CheckedLoading, check_size

_CONVERTER = 'tools/dataset_converters/depth_from_8bit.py'


class CheckedDepth(CheckedLoading):
    """mmsegmentation's transform that reads depth maps, after a look at each file's header."""

    key = 'depth_map_path'

    def check(self, content: bytes, path: str, sample: dict) -> None:
        """Raise where a map has 8 bits, colours, or not the picture's size."""
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
        check_size(size, path, sample)
