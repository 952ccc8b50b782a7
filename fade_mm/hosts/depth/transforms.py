"""What BTS does to pictures and depth maps, where mmsegmentation has no transform for it."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from fade_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class FixedCrop(BaseTransform):
    """Cut the same part out of every picture, and of the maps that belong to it.

    Args:
        box: First row, the row after the last, first column, the column after the last.

    Raises:
        ValueError: the box is empty; when called, a picture is smaller.
    """

    def __init__(self, box: Sequence[int]) -> None:
        top, bottom, left, right = box
        if not (0 <= top < bottom and 0 <= left < right):
            raise ValueError(f'box must be (top, bottom, left, right), got {tuple(box)}')
        self.box = top, bottom, left, right

    def transform(self, results: dict) -> dict:
        """Crop ``img`` and all of ``seg_fields``."""
        top, bottom, left, right = self.box
        h, w = results['img'].shape[:2]
        if bottom > h or right > w:
            raise ValueError(
                f'the picture has {h} rows and {w} columns, but box is {self.box}, (top, bottom, '
                'left, right)'
            )
        for key in ('img', *results.get('seg_fields', ())):
            results[key] = results[key][top:bottom, left:right]
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(box={self.box})'


@TRANSFORMS.register_module()
class RandomGammaBrightnessColor(BaseTransform):
    """Change a picture's gamma, brightness and colours at random.

    As in BTS: values over 255 to the power of the gamma, times the brightness, each channel times
    a factor of its own, cut to [0, 1].

    Args:
        prob: How often. Default: 0.5.
        gamma, brightness, color: From and to. Default: (0.9, 1.1), (0.75, 1.25), (0.9, 1.1).
    """

    def __init__(
        self,
        prob: float = 0.5,
        gamma: tuple[float, float] = (0.9, 1.1),
        brightness: tuple[float, float] = (0.75, 1.25),
        color: tuple[float, float] = (0.9, 1.1),
    ) -> None:
        self.prob = prob
        self.gamma = gamma
        self.brightness = brightness
        self.color = color

    @cache_randomness
    def draw(self) -> tuple[float, float, np.ndarray] | None:
        """Gamma, brightness and the channels' factors; ``None`` where nothing is to change."""
        if np.random.rand() >= self.prob:
            return None
        gamma, brightness = np.random.uniform(*self.gamma), np.random.uniform(*self.brightness)
        return gamma, brightness, np.random.uniform(*self.color, 3)

    def transform(self, results: dict) -> dict:
        """Change ``img``, ``(h, w, 3)`` from 0 to 255, which becomes float32."""
        drawn = self.draw()
        if drawn is not None:
            gamma, brightness, color = drawn
            img = (results['img'].astype(np.float32) / 255) ** gamma * brightness * color
            results['img'] = (255 * img.clip(0, 1)).astype(np.float32)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, gamma={self.gamma}, '
            f'brightness={self.brightness}, color={self.color})'
        )
