"""Trimaps that are made from alphas."""

import cv2
import numpy as np

from .sample import BACKGROUND, FOREGROUND, UNKNOWN

_CERTAIN = 1e-5


def trimap_of(alpha: np.ndarray, fg_size: int, bg_size: int) -> np.ndarray:
    """A trimap whose unknown region is what is not surely foreground or background.

    What is opaque is eroded by an ellipse, and so is what is transparent; outside of the frame
    nothing is known to be otherwise.

    Args:
        alpha: ``(h, w)``, 0 to 1.
        fg_size, bg_size: Diameters of the two ellipses, in pixels; 1 erodes nothing.

    Returns:
        ``(h, w)``, uint8: 0, 128 and 255.
    """
    trimap = np.full(alpha.shape, UNKNOWN, np.uint8)
    for certain, size, value in (
        (alpha >= 1 - _CERTAIN, fg_size, FOREGROUND),
        (alpha <= _CERTAIN, bg_size, BACKGROUND),
    ):
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        trimap[cv2.erode(certain.astype(np.uint8), ellipse) == 1] = value
    return trimap
