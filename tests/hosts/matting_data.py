"""Small foregrounds, backgrounds and pictures for the tests of matting."""

import cv2
import numpy as np


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)
    return path


def blob(seed, h=48, w=64):
    """Colours and an alpha of 8 bits, an ellipse with soft edges."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:h, :w]
    y, x = rng.uniform(0.4, 0.6, 2) * (h, w)
    distance = np.hypot((ys - y) / (0.4 * h), (xs - x) / (0.35 * w))
    alpha = (255 * (4 * (1 - distance) + 0.5).clip(0, 1)).astype(np.uint8)
    return rng.integers(0, 256, (h, w, 3)).astype(np.uint8), alpha


def matting_root(root, foregrounds=6, backgrounds=4, pictures=2):
    """``fg``, ``alpha`` and ``bg``, and ``validation`` with ``image``, ``alpha``, ``trimap``."""
    for i in range(foregrounds):
        fg, alpha = blob(i)
        write(root / f'fg/{i}.png', fg)
        write(root / f'alpha/{i}.png', alpha)
    for i in range(backgrounds):
        rng = np.random.default_rng(100 + i)
        write(root / f'bg/{i}.jpg', rng.integers(0, 256, (40, 90, 3)).astype(np.uint8))
    for i in range(pictures):
        picture, alpha = blob(200 + i)
        write(root / f'validation/image/{i}.jpg', picture)
        write(root / f'validation/alpha/{i}.png', alpha)
        trimap = np.where(alpha == 255, 255, np.where(alpha == 0, 0, 128)).astype(np.uint8)
        write(root / f'validation/trimap/{i}.png', trimap)
    return root
