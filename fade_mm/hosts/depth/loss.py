"""The loss that BTS trains with."""

import torch
from torch import Tensor, nn

from fade_mm.registry import MODELS


@MODELS.register_module()
class SILogLoss(nn.Module):
    """Scale-invariant logarithmic loss with a variance focus, over all pixels of a batch at once.

    With d the difference of logarithms, ``scale * sqrt(mean(d^2) - variance_focus * mean(d)^2)``
    (arXiv 1907.10326, section 3.4; after arXiv 1406.2283). mmsegmentation's ``SiLogLoss`` is
    another: image by image, with a focus of 0.5 and no scale.

    Args:
        variance_focus: From 0, the root mean square, to 1, the standard deviation.
            Default: 0.85.
        scale: What the loss is multiplied with. Default: 10.0.
        min_depth: Pixels count whose true depth is larger, in metres. Default: 0.1.
        loss_name: Its name in logs, which begins with ``loss_`` if it is to be learnt from.
            Default: ``'loss_silog'``.

    Raises:
        ValueError: ``variance_focus`` is not from 0 to 1.
    """

    def __init__(
        self,
        variance_focus: float = 0.85,
        scale: float = 10.0,
        min_depth: float = 0.1,
        loss_name: str = 'loss_silog',
    ) -> None:
        super().__init__()
        if not 0 <= variance_focus <= 1:
            raise ValueError(f'variance_focus must be from 0 to 1, got {variance_focus}')
        self.variance_focus = variance_focus
        self.scale = scale
        self.min_depth = min_depth
        self.loss_name = loss_name

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss, 0 where no pixel counts.

        Args:
            pred: Predicted depth ``(N, 1, h, w)``, positive.
            target: True depth of that shape, in the same unit.
        """
        dtype = torch.promote_types(pred.dtype, torch.float32)
        counts = target > self.min_depth
        # What does not count is made 1 before the logarithm, whose gradient may be infinite.
        pred, target = (torch.where(counts, x.to(dtype), 1.0) for x in (pred, target))
        difference = pred.clamp(min=torch.finfo(dtype).tiny).log() - target.log()
        number = counts.sum().clamp(min=1)
        mean, mean_of_squares = (x.sum() / number for x in (difference, difference.square()))
        variance = mean_of_squares - self.variance_focus * mean.square()
        # A root has no finite gradient at 0, where a prediction cannot be any better.
        return self.scale * (variance.clamp(min=1e-12).sqrt() * counts.any())
