"""What a matting network sees of a picture and its trimap."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from fade_mm.errors import SetupError
from fade_mm.registry import MODELS

from .sample import MattingSample


@MODELS.register_module()
class MattingPreprocessor(BaseDataPreprocessor):
    """Normalises pictures and puts their trimaps beside them, as a fourth channel.

    What is no multiple of ``size_divisor`` is padded at the bottom and to the right by reflection,
    as A2U Matting's and FADE's authors do.

    Args:
        mean: Of each channel, in the order that the network sees. Default: ImageNet's, RGB.
        std: Likewise.
        bgr_to_rgb: Turn the order of the pictures' channels around. Default: True.
        size_divisor: What height and width become multiples of. Default: 16.
        non_blocking: As in mmengine's. Default: False.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        bgr_to_rgb: bool = True,
        size_divisor: int = 16,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        self.bgr_to_rgb = bgr_to_rgb
        self.size_divisor = size_divisor
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Inputs ``(N, 4, h, w)``, float32, and their samples, on the model's device.

        Args:
            data: ``inputs``, pictures ``(3, h, w)``, 0 to 255, and ``data_samples``, of a batch.
            training: Without effect.

        Raises:
            SetupError: the pictures of a batch have different sizes.
        """
        data = self.cast_data(data)
        samples: list[MattingSample] = data['data_samples']
        sizes = {tuple(picture.shape[1:]) for picture in data['inputs']}
        if len(sizes) > 1:
            raise SetupError(
                f'the pictures of a batch must have one size, got {sorted(sizes)}; set batch_size '
                'to 1 where whole pictures are matted'
            )
        inputs = self.joined(
            torch.stack(list(data['inputs'])), torch.stack([x.trimap for x in samples])
        )
        return dict(inputs=padded(inputs, self.size_divisor), data_samples=samples)

    def joined(self, pictures: Tensor, trimaps: Tensor) -> Tensor:
        """What the network sees, ``(N, 4, h, w)``.

        Args:
            pictures: ``(N, 3, h, w)``, as they are read, 0 to 255.
            trimaps: ``(N, 1, h, w)``, 0 to 255.
        """
        pictures = self.ordered(pictures).float()
        return torch.cat([(pictures - self.mean) / self.std, trimaps.float() / 255], 1)

    def ordered(self, pictures: Tensor) -> Tensor:
        """Pictures ``(N, 3, h, w)`` with their channels in the network's order."""
        return pictures.flip(1) if self.bgr_to_rgb else pictures

    def pictures(self, inputs: Tensor) -> Tensor:
        """The pictures in what the network sees, ``(N, 3, h, w)``, 0 to 1, in its order."""
        return (inputs[:, :3] * self.std + self.mean) / 255


def padded(x: Tensor, divisor: int) -> Tensor:
    """A feature ``(N, C, h, w)``, continued by reflection to sizes that a number divides.

    The row or column at the border is not repeated; where there are too few, reflections go on.
    """
    for dim in (2, 3):
        size = x.shape[dim]
        more = -size % divisor
        if more:
            there_and_back = [*range(size), *range(size - 2, 0, -1)]
            index = [there_and_back[i % len(there_and_back)] for i in range(size + more)]
            x = x.index_select(dim, torch.tensor(index, device=x.device))
    return x
