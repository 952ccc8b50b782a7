"""Matting models as exported files have them."""

import torch
from torch import Tensor, nn

from .sample import UNKNOWN


class ExportedMatting(nn.Module):
    """From pictures and trimaps to alphas; sizes are multiples of 16.

    Args:
        model: An `A2UMatting`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Alpha ``(N, 1, h, w)``, 0 to 1; what is known is the trimap's.

        Args:
            image: Pictures ``(N, 3, h, w)`` as OpenCV reads them, BGR from 0 to 255, float32.
            trimap: ``(N, 1, h, w)``, float32: 0, 128 and 255.
        """
        inputs = self.model.data_preprocessor.joined(image, trimap)
        alpha = self.model.network(inputs).clamp(0, 1)
        return torch.where(trimap == UNKNOWN, alpha, trimap / 255)
