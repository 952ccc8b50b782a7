"""A2U Matting (Dai et al., CVPR 2021), the model of FADE's matting table."""

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor

from fade_mm.errors import SetupError
from fade_mm.memory import available_memory
from fade_mm.registry import MODELS

from .network import STRIDE, A2UNet
from .sample import UNKNOWN, MattingSample

BYTES_PER_PIXEL = 3000  # float32, at 64 base channels: measured 1,620 to 2,622, SAPA-B's being most


@MODELS.register_module()
class A2UMatting(BaseModel):
    """Finds the alpha of a picture whose trimap is known.

    Args:
        data_preprocessor: Config of the preprocessor. Default: `MattingPreprocessor`.
        upsample_cfg: Config of the upsamplers; see `build_upsampler`. Default: bilinear.
        loss: Config of the loss, called as `MattingLoss` is. Default: `MattingLoss`.
        base_channels: Channels of the stem, 64 in the paper's ResNet-34; see `A2UNet`. Default: 64.
        dilations: Of the context's branches. Default: ``(1, 6, 12, 18)``.
        dropout: Share of the context's values that training drops. Default: 0.5.
        start_upsamplers_alike: Start the upsamplers' convolutions as all others, as the released
            code does. Default: False.
        pretrained: File or URL of an ImageNet ResNet-34 that the encoder starts from; see `A2UNet`.
            Default: ``None``.
        start_head_positive: Let the last convolution start with a positive sum, without which some
            short trainings learn nothing; see `A2UNet`. Default: False, as the authors.
        test_cfg: How pictures are matted. ``dict(mode='whole')``, at once, or
            ``dict(mode='slide', crop_size=(1024, 1024), stride=(768, 768))``, by tiles that
            overlap, for pictures that are too large for the memory: where nothing is unknown,
            nothing is computed, and where tiles overlap, one fades into the other. The context of a
            tile is not that of the picture, so results differ a little. Crop sizes and strides are
            rounded up to multiples of 16. Default: whole.
        init_cfg: As in mmengine's. Default: ``None``.

    Raises:
        ValueError: ``test_cfg`` has another mode, or tiles that leave gaps.
    """

    def __init__(
        self,
        data_preprocessor: dict | None = None,
        upsample_cfg: dict | None = None,
        loss: dict | None = None,
        base_channels: int = 64,
        dilations: tuple[int, ...] = (1, 6, 12, 18),
        dropout: float = 0.5,
        start_upsamplers_alike: bool = False,
        pretrained: str | None = None,
        start_head_positive: bool = False,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type='fade_mm.MattingPreprocessor'), init_cfg)
        self.test_cfg = dict(test_cfg or dict(mode='whole'))
        self._tile, self._stride = _tiles(**self.test_cfg)
        self._taken = 0  # bytes that a picture had, which a process keeps for the next one
        self.base_channels = base_channels
        self.network = A2UNet(
            upsample_cfg or dict(type='bilinear'),
            base_channels,
            dilations,
            dropout,
            start_upsamplers_alike,
            pretrained,
            start_head_positive,
        )
        self.loss_module = MMENGINE_MODELS.build(loss or dict(type='fade_mm.MattingLoss'))

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[MattingSample] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | list[MattingSample]:
        """Alpha, the losses, or samples with predictions.

        Args:
            inputs: From the preprocessor, ``(N, 4, h, w)``, h and w multiples of 16.
            data_samples: One for each image.
            mode: ``'tensor'`` (alpha ``(N, 1, h, w)``, not limited to [0, 1]), ``'loss'`` or
                ``'predict'``.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return self.network(inputs)

    def loss(self, inputs: Tensor, data_samples: list[MattingSample]) -> dict[str, Tensor]:
        """The losses.

        Args:
            inputs: ``(N, 4, h, w)``.
            data_samples: With ``trimap``, ``gt_alpha``, ``gt_fg`` and ``gt_bg``.
        """
        truth = {
            key: torch.stack([sample.get(key) for sample in data_samples])
            for key in ('trimap', 'gt_alpha', 'gt_fg', 'gt_bg')
        }
        h, w = truth['trimap'].shape[2:]
        merged = self.data_preprocessor.pictures(inputs)[..., :h, :w]
        for key in ('gt_fg', 'gt_bg'):
            truth[key] = self.data_preprocessor.ordered(truth[key]) / 255
        return self.loss_module(self.network(inputs)[..., :h, :w], merged=merged, **truth)

    def predict(self, inputs: Tensor, data_samples: list[MattingSample]) -> list[MattingSample]:
        """The samples, each with ``pred_alpha``, ``(h, w)``; what is known is the trimap's.

        Args:
            inputs: ``(N, 4, h, w)``.
            data_samples: With ``trimap``.

        Raises:
            SetupError: the pictures are too large for the memory that is free.
        """
        if self._tile:
            alphas = torch.stack([self._tiled(image) for image in inputs])
        else:
            taken = self._check_memory(inputs)
            alphas = self.network(inputs).float()
            self._taken = max(self._taken, taken)
        for sample, alpha in zip(data_samples, alphas, strict=True):
            trimap = sample.trimap[0]
            h, w = trimap.shape
            found = alpha[0, :h, :w].clamp(0, 1)
            sample.pred_alpha = torch.where(trimap == UNKNOWN, found, trimap.float() / 255)
        return data_samples

    def _check_memory(self, inputs: Tensor) -> int:
        """How many bytes inputs may need; raise where there are not as many."""
        n, _, h, w = inputs.shape
        needed = n * h * w * BYTES_PER_PIXEL * self.base_channels // 64
        free = available_memory(inputs.device)
        if free is not None and needed > free + self._taken:
            raise SetupError(
                f'a picture of {h} x {w} takes up to {needed / 2**30:.1f} GiB at once, and '
                f'{free / 2**30:.1f} GiB are free; set --cfg-options model.test_cfg.mode=slide, '
                'which mattes it by tiles'
            )
        return needed

    def _tiled(self, image: Tensor) -> Tensor:
        """Alpha ``(1, h, w)`` of one image ``(4, h, w)``, by tiles that fade into each other."""
        size = image.shape[1:]
        total, weights = (image.new_zeros(1, *size, dtype=torch.float32) for _ in range(2))
        unknown = (image[3] > 0.25) & (image[3] < 0.75)
        for rows in _spans(size[0], self._tile[0], self._stride[0]):
            for columns in _spans(size[1], self._tile[1], self._stride[1]):
                if unknown[rows, columns].any():
                    alpha = self.network(image[None, :, rows, columns])[0].float()
                    share = _fading(alpha, self._tile, self._stride)
                    total[:, rows, columns] += alpha * share
                    weights[:, rows, columns] += share
        return total / weights.clamp(min=1e-6)


def _tiles(
    mode: str,
    crop_size: tuple[int, int] = (1024, 1024),
    stride: tuple[int, int] = (768, 768),
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Sizes and strides of tiles in multiples of the network's; ``None`` for whole pictures."""
    if mode not in ('whole', 'slide'):
        raise ValueError(f"test_cfg.mode must be 'whole' or 'slide', got {mode!r}")
    if any(step > side or step < 1 for step, side in zip(stride, crop_size, strict=True)):
        raise ValueError(
            f'test_cfg.stride must be at least 1 and at most crop_size, got {tuple(stride)} and '
            f'{tuple(crop_size)}'
        )
    if mode == 'whole':
        return None, None
    crop_size, stride = (
        tuple(-(-side // STRIDE) * STRIDE for side in sides) for sides in (crop_size, stride)
    )
    return crop_size, stride


def _spans(length: int, tile: int, stride: int) -> list[slice]:
    """Where the tiles of a line lie; the last one ends with the line."""
    starts = [*range(0, max(length - tile, 0), stride), max(length - tile, 0)]
    return [slice(start, min(start + tile, length)) for start in starts]


def _fading(alpha: Tensor, tile: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """What a tile counts, point by point: less towards its border, where others overlap it."""
    rows, columns = (
        _ramp(length, max(side - step, 1), alpha)
        for length, side, step in zip(alpha.shape[1:], tile, stride, strict=True)
    )
    return rows[:, None] * columns


def _ramp(length: int, overlap: int, like: Tensor) -> Tensor:
    """Rises from each end over the overlap, to 1."""
    distance = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(distance, distance.flip(0)).div(overlap).clamp(max=1)
