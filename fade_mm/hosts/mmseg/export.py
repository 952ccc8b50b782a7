"""Segmentors as exported files have them."""

import copy

import torch
import torch.nn.functional as F
from mmseg.models.utils import Upsample
from torch import Tensor, nn


class ExportedSegmentor(nn.Module):
    """From pictures to class logits, as mmsegmentation computes them for whole images.

    Args:
        segmentor: A segmentor of mmsegmentation's that encodes and decodes.
    """

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.segmentor = segmentor

    def forward(self, image: Tensor) -> Tensor:
        """Class logits ``(N, num_classes, h, w)``.

        Args:
            image: Pictures ``(N, 3, h, w)`` as OpenCV reads them, BGR from 0 to 255, in float32;
                the config's own channel order and normalisation are applied here.
        """
        size = image.shape[2:]
        preprocessor = self.segmentor.data_preprocessor
        if getattr(preprocessor, 'channel_conversion', False):
            image = image.flip(1)
        if hasattr(preprocessor, 'mean'):
            image = (image - preprocessor.mean) / preprocessor.std
        return self.segmentor.encode_decode(image, [dict(img_shape=size)])

    def traceable(self) -> nn.Module:
        """A copy that can be traced for pictures of any size.

        Adaptive pooling has no operator in ONNX for sizes that are not known, and mmsegmentation's
        `Upsample` makes fixed numbers of them.
        """
        traced = copy.deepcopy(self)
        for parent in list(traced.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.AdaptiveAvgPool2d):
                    setattr(parent, name, AveragePool(child.output_size))
                elif type(child) is Upsample and child.scale_factor == int(child.scale_factor or 0):
                    setattr(parent, name, Enlarge(child))
        return traced


class AveragePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as products with two matrices, which hold for any size.

    Args:
        size: Height and width of the output, or one number for both.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else size

    def forward(self, x: Tensor) -> Tensor:
        """The means ``(N, C, *size)`` of ``x``, ``(N, C, h, w)``."""
        rows, columns = (_shares(n, m, x) for n, m in zip(x.shape[2:], self.size, strict=True))
        return rows @ x @ columns.T


def _shares(size: int, parts: int, like: Tensor) -> Tensor:
    """A matrix ``(parts, size)`` of what each part's mean takes of each point."""
    part = torch.arange(parts, device=like.device)[:, None]
    start, end = part * size // parts, ((part + 1) * size + parts - 1) // parts
    point = torch.arange(size, device=like.device)
    return ((point >= start) & (point < end)).to(like) / (end - start)


class Enlarge(nn.Module):
    """mmsegmentation's `Upsample` by a whole factor, at sizes that are not known.

    Args:
        up: The layer.
    """

    def __init__(self, up: Upsample) -> None:
        super().__init__()
        self.factor, self.mode, self.align_corners = int(up.scale_factor), up.mode, up.align_corners

    def forward(self, x: Tensor) -> Tensor:
        """``x`` at ``factor`` times its size."""
        size = [n * self.factor for n in x.shape[2:]]
        return F.interpolate(x, size, mode=self.mode, align_corners=self.align_corners)
