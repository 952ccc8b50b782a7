"""The colours of a foreground: blur fusion (Forte, ICIP 2021, arXiv 2102.13056)."""

import cv2
import numpy as np

_RADII = (90, 6)  # of the two passes, the paper's
_EPS = 1e-5


def estimate_foreground(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours that a foreground has by itself, without the background that shines through.

    Where alpha is 1, they are the image's; where it is 0, those of the foreground nearby, so that
    enlarging or blurring a cut-out brings in no other colour.

    Args:
        image: ``(h, w, 3)``, uint8.
        alpha: ``(h, w)``, 0 to 1.

    Returns:
        ``(h, w, 3)``, uint8, in the image's order of channels.

    Raises:
        ValueError: sizes differ, or the image is not uint8.
    """
    if image.dtype != np.uint8 or image.shape != (*alpha.shape, 3):
        raise ValueError(
            f'image must be uint8 of shape (h, w, 3) and alpha (h, w), got {image.dtype} '
            f'{image.shape} and {alpha.shape}'
        )
    alpha = alpha.astype(np.float32)[..., None].clip(0, 1)
    image = image.astype(np.float32)
    layers = [image, image]  # foreground and background
    weights = [alpha, 1 - alpha]
    elsewhere = [np.average(image.reshape(-1, 3), 0, w.ravel() + _EPS) for w in weights]
    for radius in _RADII:
        layers = [_mean(*x, radius) for x in zip(layers, weights, elsewhere, strict=True)]
        fg, bg = layers
        fg += alpha * (image - alpha * fg - (1 - alpha) * bg)
        elsewhere = layers = [fg.clip(0, 255, out=fg), bg]
    return np.rint(layers[0]).astype(np.uint8)


def _mean(
    colours: np.ndarray, weights: np.ndarray, elsewhere: np.ndarray, radius: int
) -> np.ndarray:
    """Weighted means around each pixel; another colour where nothing around has a weight."""
    size = (2 * radius + 1,) * 2
    total = cv2.blur(weights, size)[..., None].clip(0)
    return (cv2.blur(colours * weights, size) + _EPS * elsewhere) / (total + _EPS)
