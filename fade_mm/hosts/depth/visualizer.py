"""Pictures of depth."""

import cv2
import numpy as np
from mmengine.visualization import Visualizer

_BAR = 12  # pixels
_SCALE = 64  # with what is written beside it
_TEXT = dict(fontFace=cv2.FONT_HERSHEY_SIMPLEX, fontScale=0.35, color=(0, 0, 0))


class DepthVisualizer(Visualizer):
    """Draws a picture, true and predicted depth side by side, and their scale in metres."""

    def add_datasample(
        self, name: str, image: np.ndarray, data_sample, draw_gt: bool = True, **kwargs
    ) -> None:
        """Draw a picture's depth.

        Args:
            name: Unused.
            image: The picture ``(h, w, 3)``, uint8, RGB.
            data_sample: With ``pred_depth_map``, and ``gt_depth_map`` if it is known.
            draw_gt: Whether to draw the truth. Default: ``True``.
            **kwargs: Unused.
        """
        names = ['gt_depth_map'] if draw_gt and 'gt_depth_map' in data_sample else []
        maps = [
            data_sample.get(x).data.squeeze(0).float().cpu().numpy()
            for x in (*names, 'pred_depth_map')
        ]
        self.set_image(depth_picture(image, maps))


def depth_picture(image: np.ndarray, maps: list[np.ndarray]) -> np.ndarray:
    """A picture beside depth maps in one scale, that of the first map, from blue to yellow.

    Args:
        image: The picture ``(h, w, 3)``, uint8, RGB.
        maps: Depth in metres ``(h, w)``; where it is not positive, it is not known, and black.

    Returns:
        All side by side, and the scale, ``(h, W, 3)``, uint8, RGB.
    """
    known = maps[0][maps[0] > 0]
    near, far = (known.min(), known.max()) if known.size else (0.0, 1.0)
    h, w = image.shape[:2]
    panels = [image]
    for depth in maps:
        levels = 255 * ((depth - near) / max(far - near, 1e-6)).clip(0, 1)
        panel = _coloured(levels)
        panel[depth <= 0] = 0
        panels.append(cv2.resize(panel, (w, h), interpolation=cv2.INTER_NEAREST))
    return np.hstack([*panels, _scale(h, near, far)])


def _scale(height: int, near: float, far: float) -> np.ndarray:
    """A bar, far at the top, with metres beside it."""
    scale = np.full((height, _SCALE, 3), 255, np.uint8)
    scale[:, 2 : 2 + _BAR] = _coloured(np.linspace(255, 0, height)[:, None])
    for share in (0.0, 0.5, 1.0) if height >= 40 else (0.0, 1.0):
        place = _BAR + 5, int(9 + share * (height - 12))
        cv2.putText(scale, f'{far + share * (near - far):.1f} m', place, **_TEXT)
    return scale


def _coloured(levels: np.ndarray) -> np.ndarray:
    """Colours, RGB, of levels from 0 to 255."""
    return cv2.applyColorMap(levels.astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()
