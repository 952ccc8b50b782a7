"""Segmentors as exported files have them."""

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
