"""Pictures of mattes."""

import numpy as np
from mmengine.visualization import Visualizer

from fade_mm.registry import VISUALIZERS

from .foreground import estimate_foreground
from .sample import MattingSample

_SQUARE = 16  # pixels of the checkerboard
_LIGHT, _DARK = 204, 153


@VISUALIZERS.register_module()
class MattingVisualizer(Visualizer):
    """Draws mattes: the picture, alpha, and what it cuts out, on a checkerboard.

    The cut-out's colours are estimated, so that no background shines through where it is
    transparent. Below, if the truth is known, are the trimap, the true alpha and its cut-out.

    Args:
        **kwargs: As in mmengine's.
    """

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: MattingSample,
        draw_gt: bool = True,
        step: int = 0,
        **kwargs,
    ) -> None:
        """Draw a prediction.

        Args:
            name: What visualisation backends, if there are any, call the drawing.
            image: The picture ``(h, w, 3)``, RGB, uint8.
            data_sample: With ``pred_alpha``.
            draw_gt: Whether the truth, if it is known, is drawn below. Default: True.
            step: Number of the iteration. Default: 0.
            **kwargs: Without effect.
        """
        alpha = data_sample.pred_alpha.cpu().numpy()
        rows = [np.hstack([image, grey(alpha), on_checkerboard(image, alpha)])]
        if draw_gt and 'gt_alpha' in data_sample:
            truth = data_sample.gt_alpha[0].cpu().numpy()
            trimap = data_sample.trimap[0].cpu().numpy() / 255
            rows.append(np.hstack([grey(trimap), grey(truth), on_checkerboard(image, truth)]))
        self._drawn = np.vstack(rows)
        if self._vis_backends:
            self.add_image(name, self._drawn, step)

    def get_image(self) -> np.ndarray:
        """What was drawn last, RGB."""
        return self._drawn


def grey(alpha: np.ndarray) -> np.ndarray:
    """Alpha ``(h, w)``, 0 to 1, as a picture ``(h, w, 3)``, uint8."""
    return np.repeat(np.rint(255 * alpha).astype(np.uint8)[..., None], 3, 2)


def on_checkerboard(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What alpha cuts out of a picture, laid on a checkerboard.

    Args:
        image: ``(h, w, 3)``, uint8.
        alpha: ``(h, w)``, 0 to 1.
    """
    rows, columns = (np.arange(n) // _SQUARE % 2 for n in alpha.shape)
    board = np.where(rows[:, None] == columns, _LIGHT, _DARK)[..., None]
    share = alpha[..., None]
    colours = estimate_foreground(image, alpha)
    return np.rint(share * colours + (1 - share) * board).astype(np.uint8)
