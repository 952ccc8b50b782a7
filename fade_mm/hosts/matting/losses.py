"""The loss of A2U Matting (Dai et al., CVPR 2021), which FADE's matting models train with."""

import torch
from torch import Tensor, nn

from fade_mm.registry import MODELS

from .sample import UNKNOWN


@MODELS.register_module()
class MattingLoss(nn.Module):
    """Charbonnier distances of alphas and of composites, over the unknown region.

    With ``m`` 1 where the trimap is unknown and 0 elsewhere, a map ``x`` costs
    ``sum(sqrt((m * x)^2 + eps^2)) / (sum(m) + 1)``, each picture by itself; then pictures are
    averaged. ``loss_alpha`` is that of ``pred - gt_alpha``; ``loss_comp`` is the sum over the
    three colours of that of ``pred * gt_fg + (1 - pred) * gt_bg - merged``.

    Args:
        loss_weight_alpha: Factor of ``loss_alpha``. Default: 0.5.
        loss_weight_comp: Factor of ``loss_comp``. Default: 0.5.
        eps: Default: 1e-6.
    """

    def __init__(
        self, loss_weight_alpha: float = 0.5, loss_weight_comp: float = 0.5, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.loss_weight_alpha = loss_weight_alpha
        self.loss_weight_comp = loss_weight_comp
        self.eps = eps

    def forward(
        self,
        pred: Tensor,
        trimap: Tensor,
        gt_alpha: Tensor,
        gt_fg: Tensor,
        gt_bg: Tensor,
        merged: Tensor,
    ) -> dict[str, Tensor]:
        """The two losses, float32.

        Args:
            pred: Raw predicted alpha ``(N, 1, h, w)``.
            trimap: ``(N, 1, h, w)``: 0, 128 and 255.
            gt_alpha: ``(N, 1, h, w)``, 0 to 1.
            gt_fg, gt_bg, merged: Foreground, background and composite ``(N, 3, h, w)``, 0 to 1.
        """
        pred = pred.float()
        mask = (trimap == UNKNOWN).float()
        composite = pred * gt_fg + (1 - pred) * gt_bg
        return dict(
            loss_alpha=self.loss_weight_alpha * self._distance(pred - gt_alpha, mask),
            loss_comp=self.loss_weight_comp * self._distance(composite - merged, mask),
        )

    def _distance(self, difference: Tensor, mask: Tensor) -> Tensor:
        costs = torch.sqrt((difference * mask).square() + self.eps**2)
        return (costs.sum((1, 2, 3)) / (mask.sum((1, 2, 3)) + 1)).mean()
