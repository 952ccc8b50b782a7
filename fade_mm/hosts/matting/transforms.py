"""The augmentation of A2U Matting, step by step, which it has from GCA Matting (Li and Lu, 2020).

Foregrounds are composed of any background anew each time they are seen. In the recipe's order:
`CompositeFg`, `ResizeFg`, `RandomAffine`, `Flip`, `GenerateTrimap`, `CropAroundCenter`,
`RandomJitter`, `MergeFgAndBg`. All work on ``fg`` (BGR), ``alpha`` (0 to 1), ``bg`` and ``trimap``.
Where mmagic has the step, its name and arguments are mmagic's.
"""

import math
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from fade_mm.registry import TRANSFORMS

from .loading import LoadForeground
from .sample import UNKNOWN
from .trimaps import trimap_of

_ENLARGED = 1.1  # by how much a picture exceeds a crop that it is enlarged for
_FEW = 10  # unknown pixels; with fewer, crops lie anywhere


@TRANSFORMS.register_module()
class CompositeFg(LoadForeground):
    """Lays the foreground over a second one, that of ``fg2_path`` and ``alpha2_path``.

    The second is resized to the first (nearest). With alphas ``a1`` and ``a2``, the new alpha is
    ``a = 1 - (1 - a1) (1 - a2)``, and the colour ``(fg1 a1 + fg2 (1 - a1) a2) / (a + 1e-5)``,
    rounded down. Where both would be opaque everywhere, the first stays alone.

    Args:
        prob: Probability. Default: 0.5.
        backend_args: See `Loader`.
    """

    def __init__(self, prob: float = 0.5, backend_args: dict | None = None) -> None:
        super().__init__(backend_args)
        self.prob = prob

    def transform(self, results: dict) -> dict:
        if np.random.rand() >= self.prob:
            return results
        fg2, alpha2 = self.foreground(results['fg2_path'], results.get('alpha2_path'))
        alpha = results['alpha']
        fg2, alpha2 = (_resized(x, *alpha.shape) for x in (fg2, alpha2))
        both = 1 - (1 - alpha) * (1 - alpha2)
        if (both < 1).any():
            shares = (x / (both + 1e-5) for x in (alpha, (1 - alpha) * alpha2))
            layers = zip((results['fg'], fg2), shares, strict=True)
            colour = sum(fg * share[..., None] for fg, share in layers)
            results.update(fg=colour.astype(np.uint8), alpha=both)
        return results


@TRANSFORMS.register_module()
class ResizeFg(BaseTransform):
    """Resizes the foreground (nearest), whatever its proportions.

    Args:
        scale: New width and height. Default: (640, 640).
        prob: Probability. Default: 0.25.
    """

    def __init__(self, scale: tuple[int, int] = (640, 640), prob: float = 0.25) -> None:
        self.scale = scale
        self.prob = prob

    def transform(self, results: dict) -> dict:
        if np.random.rand() < self.prob:
            for key in ('fg', 'alpha'):
                results[key] = _resized(results[key], *self.scale[::-1])
        return results


@TRANSFORMS.register_module()
class RandomAffine(BaseTransform):
    """Flips, scales, rotates and shears the foreground about its centre, in its frame.

    Both axes are scaled independently. What comes from outside of the frame is 0; pixels are the
    nearest ones.

    Args:
        degrees: Rotations are drawn from plus and minus it. Default: 30.
        scale: Range of the factors. Default: (0.8, 1.25).
        shear: Shears are drawn from plus and minus it, in degrees. Default: 10.
        flip_ratio: Probability of a flip, for each axis. Default: 0.5.
        rotated_from: Longer side, in pixels, from which foregrounds are rotated. Default: 1024.
    """

    def __init__(
        self,
        degrees: float = 30,
        scale: tuple[float, float] = (0.8, 1.25),
        shear: float = 10,
        flip_ratio: float = 0.5,
        rotated_from: int = 1024,
    ) -> None:
        self.degrees = degrees
        self.scale = scale
        self.shear = shear
        self.flip_ratio = flip_ratio
        self.rotated_from = rotated_from

    def transform(self, results: dict) -> dict:
        h, w = results['alpha'].shape
        degrees = self.degrees if max(h, w) >= self.rotated_from else 0
        matrix = affine_matrix(
            (w, h),
            angle=np.random.uniform(-degrees, degrees),
            scale=np.random.uniform(*self.scale, 2),
            shear=np.random.uniform(-self.shear, self.shear),
            flips=np.random.rand(2) < self.flip_ratio,
        )
        for key in ('fg', 'alpha'):
            results[key] = cv2.warpAffine(results[key], matrix, (w, h), flags=cv2.INTER_NEAREST)
        return results


def affine_matrix(
    size: tuple[int, int],
    angle: float,
    scale: tuple[float, float],
    shear: float,
    flips: tuple[bool, bool],
) -> np.ndarray:
    """The map of pixels ``(x, y)`` that flips, scales, rotates and shears, in that order.

    Args:
        size: Width and height; the centre, half of each and half a pixel more, stays.
        angle: In degrees.
        scale: Factors of x and y.
        shear: In degrees; turns the y axis alone.
        flips: Whether x and y are flipped.

    Returns:
        ``(2, 3)``.
    """
    angle, sheared = math.radians(angle), math.radians(angle + shear)
    turn = np.array([[math.cos(sheared), -math.sin(sheared)], [math.sin(angle), math.cos(angle)]])
    turn = turn * np.where(flips, -1, 1) * scale
    centre = 0.5 * np.array(size) + 0.5
    return np.column_stack([turn, centre - turn @ centre])


@TRANSFORMS.register_module()
class Flip(BaseTransform):
    """Flips the foreground from left to right.

    Args:
        flip_ratio: Probability. Default: 0.5.
    """

    def __init__(self, flip_ratio: float = 0.5) -> None:
        self.flip_ratio = flip_ratio

    def transform(self, results: dict) -> dict:
        if np.random.rand() < self.flip_ratio:
            for key in ('fg', 'alpha'):
                results[key] = np.ascontiguousarray(results[key][:, ::-1])
        return results


@TRANSFORMS.register_module()
class GenerateTrimap(BaseTransform):
    """Makes ``trimap`` from ``alpha``: what is opaque or transparent is known but for a margin.

    Args:
        kernel_size: Diameter of the ellipse that opaque and transparent regions are eroded by, or
            a range without its end that both are drawn from, one by one. Default: (1, 30).
    """

    def __init__(self, kernel_size: int | tuple[int, int] = (1, 30)) -> None:
        whole = isinstance(kernel_size, int)
        self.kernel_size = (kernel_size, kernel_size + 1) if whole else tuple(kernel_size)
        if self.kernel_size[0] < 1 or self.kernel_size[0] >= self.kernel_size[1]:
            raise ValueError(f'kernel_size must be 1 or more, or a range, got {kernel_size}')

    def transform(self, results: dict) -> dict:
        sizes = np.random.randint(*self.kernel_size, 2).tolist()
        results['trimap'] = trimap_of(results['alpha'], *sizes)
        return results


@TRANSFORMS.register_module()
class CropAroundCenter(BaseTransform):
    """Crops around an unknown pixel that is half a crop or more away from the frame.

    The background is enlarged (bicubic) to cover the foreground, and both are, where they are no
    larger than the crop, to 1.1 times the crop. With fewer than ten such pixels, the crop lies
    anywhere; without any unknown pixel, all of the picture is resized to the crop.

    Args:
        crop_size: Height and width, or one number for both. Default: 512.
    """

    def __init__(self, crop_size: int | tuple[int, int] = 512) -> None:
        whole = isinstance(crop_size, int)
        self.crop_size = (crop_size, crop_size) if whole else tuple(crop_size)

    def transform(self, results: dict) -> dict:
        crop_h, crop_w = self.crop_size
        h, w = results['trimap'].shape
        results['bg'] = covering(results['bg'], h, w)
        if h <= crop_h or w <= crop_w:
            factor = _ENLARGED * max(crop_h / h, crop_w / w)
            for key in ('fg', 'alpha', 'trimap', 'bg'):
                rows, columns = (int(factor * x) for x in results[key].shape[:2])
                size = max(rows, crop_h + 1), max(columns, crop_w + 1)
                results[key] = _resized(results[key], *size, cubic=key == 'bg')
            h, w = results['trimap'].shape
        unknown = results['trimap'] == UNKNOWN
        if not unknown.any():
            for key in ('fg', 'alpha', 'trimap', 'bg'):
                results[key] = _resized(results[key], crop_h, crop_w, cubic=key == 'bg')
            return results
        # Places in this part are those of the top left corners of crops around them.
        rows, columns = np.nonzero(
            unknown[crop_h // 2 : h - crop_h // 2, crop_w // 2 : w - crop_w // 2]
        )
        if len(rows) < _FEW:
            top, left = np.random.randint(h - crop_h + 1), np.random.randint(w - crop_w + 1)
        else:
            chosen = np.random.randint(len(rows))
            top, left = rows[chosen], columns[chosen]
        for key in ('fg', 'alpha', 'trimap', 'bg'):
            results[key] = results[key][top : top + crop_h, left : left + crop_w]
        return results


@TRANSFORMS.register_module()
class RandomJitter(BaseTransform):
    """Changes hue, saturation and value of the foreground, which is floating-point afterwards.

    All hues turn by one whole number of degrees. Saturations are shifted by one number from plus
    and minus a tenth of ``1.1 - mean``, where the mean is over what is not transparent, and
    reflected into 0 to 1; so are values. A foreground that is transparent everywhere stays.

    Args:
        hue_range: Turns are drawn from ``-hue_range`` to ``hue_range - 1``. Default: 40.
    """

    def __init__(self, hue_range: int = 40) -> None:
        self.hue_range = hue_range

    def transform(self, results: dict) -> dict:
        visible = results['alpha'] > 0
        if not visible.any():
            return results
        hsv = cv2.cvtColor(results['fg'].astype(np.float32) / 255, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0] + np.random.randint(-self.hue_range, self.hue_range)) % 360
        for channel in (1, 2):
            values = hsv[..., channel]
            most = (1.1 - values[visible].mean()) / 10
            values = np.abs(values + np.random.uniform(-most, most))
            hsv[..., channel] = np.where(values > 1, 2 - values, values)
        results['fg'] = 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        return results


@TRANSFORMS.register_module()
class MergeFgAndBg(BaseTransform):
    """Composes ``img`` of foreground and background, float32, not rounded.

    A background of another size is enlarged (bicubic) where it does not cover the foreground, and
    what lies below and right of it is cut off. As ``img_path``, a composite is called what its
    parts are.
    """

    def transform(self, results: dict) -> dict:
        alpha = results['alpha'].clip(0, 1)
        h, w = alpha.shape
        fg = results['fg'].clip(0, 255)
        bg = covering(results['bg'], h, w)[:h, :w]
        merged = fg * alpha[..., None] + bg * (1 - alpha[..., None])
        results.update(
            img=merged.astype(np.float32), fg=fg, bg=bg, alpha=alpha,
            ori_shape=(h, w), img_shape=(h, w),
        )  # fmt: skip
        parts = [Path(results[key]).stem for key in ('fg_path', 'bg_path') if key in results]
        if parts:
            results['img_path'] = '_'.join(parts) + '.png'
        return results


def covering(picture: np.ndarray, h: int, w: int) -> np.ndarray:
    """A picture enlarged (bicubic), in its proportions, to at least a height and a width."""
    factor = max(h / picture.shape[0], w / picture.shape[1])
    if factor <= 1:
        return picture
    return _resized(picture, *(math.ceil(factor * x) for x in picture.shape[:2]), cubic=True)


def _resized(picture: np.ndarray, h: int, w: int, cubic: bool = False) -> np.ndarray:
    kind = cv2.INTER_CUBIC if cubic else cv2.INTER_NEAREST
    return cv2.resize(picture, (w, h), interpolation=kind)
