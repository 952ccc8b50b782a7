"""DySample: learning to upsample by learning to sample (arXiv 2308.15085, ICCV 2023).

Names and initialisation are those of tiny-smart/dysample. Its revisions differ in whether the
dynamic scope has a bias; the one without has the published +49.2K and +6.2K parameters (Panoptic
FPN) and is followed here. The table's rows: DySample is the default, DySample+ has
``dyscope=True``, DySample-S has ``style='pl'``, DySample-S+ both.
"""

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from fade_mm.ops.checks import check_dtypes, check_feature, check_positive
from fade_mm.ops.sampling import pixel_shuffle, pixel_unshuffle
from fade_mm.registry import MODELS

_GROUPS = {'lp': 4, 'pl': 8}


@MMENGINE_MODELS.register_module('dysample')
@MODELS.register_module('dysample')
class DySample(nn.Module):
    """DySample upsampling, ``up(x)``: bilinear samples of the feature at learned points.

    Args:
        in_channels: Channels C of the feature.
        scale_factor: Upsampling ratio s. Default: 2.
        style: ``'lp'``: project to offsets, then pixel shuffle; ``'pl'``: pixel shuffle the
            feature first, which needs ``C`` to be a multiple of ``s * s``. Default: ``'lp'``.
        groups: Groups of channels with offsets of their own; divides ``in_channels``. Default: 4
            for ``'lp'``, 8 for ``'pl'``.
        dyscope: Scale the offsets point by point with a factor in (0, 0.5) instead of 0.25.
            Default: False.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    guided = False

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        style: str = 'lp',
        groups: int | None = None,
        dyscope: bool = False,
    ) -> None:
        super().__init__()
        if style not in _GROUPS:
            raise ValueError(f'style must be one of {", ".join(_GROUPS)}, got {style!r}')
        groups = _GROUPS[style] if groups is None else groups
        check_positive(in_channels=in_channels, scale_factor=scale_factor, groups=groups)
        if in_channels % groups:
            raise ValueError(f'groups must divide in_channels, got {groups} and {in_channels}')
        phases = scale_factor**2
        if style == 'pl' and in_channels % phases:
            raise ValueError(
                f"style='pl' needs in_channels to be a multiple of {phases}, got {in_channels}"
            )
        self.in_channels = in_channels
        self.scale_factor = scale_factor
        self.style = style
        self.groups = groups
        widths = (in_channels, 2 * groups * phases)
        if style == 'pl':
            widths = (in_channels // phases, 2 * groups)
        self.offset = nn.Conv2d(*widths, 1)
        self.scope = nn.Conv2d(*widths, 1, bias=False) if dyscope else None
        at = (torch.arange(scale_factor) - (scale_factor - 1) / 2) / scale_factor
        y, x = torch.meshgrid(at, at, indexing='ij')
        positions = torch.stack([x, y])[:, None].expand(-1, groups, -1, -1)
        self.register_buffer('init_pos', positions.reshape(1, -1, 1, 1))
        self.init_weights()

    def init_weights(self) -> None:
        """Small-normal offsets (std 0.001), zero scope, zero biases."""
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample ``x`` ``(N, C, H, W)`` to ``(N, C, s * H, s * W)``.

        Raises:
            TypeError, ValueError: ``x`` does not fit the layer.
        """
        check_feature('x', x, self.in_channels)
        check_dtypes(self, x=x)
        n, c, height, width = x.shape
        s = self.scale_factor
        source = pixel_shuffle(x, s) if self.style == 'pl' else x
        offset = self.offset(source)
        offset = offset * (0.25 if self.scope is None else 0.5 * self.scope(source).sigmoid())
        if self.style == 'pl':
            offset = pixel_unshuffle(offset, s)

        # Coordinates of large features need more digits than half precision has.
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows, cols = (torch.arange(a, dtype=dtype, device=x.device) for a in (height, width))
        centres = torch.stack(torch.meshgrid(cols, rows, indexing='xy')) + 0.5  # (2, H, W)
        points = (offset.to(dtype) + self.init_pos.to(dtype)).unflatten(1, (2, -1))
        at_x, at_y = pixel_shuffle(points + centres[:, None], s).unbind(1)
        points = torch.stack([2 * at_x / width - 1, 2 * at_y / height - 1], dim=-1)
        y = F.grid_sample(
            x.to(dtype).reshape(n * self.groups, c // self.groups, height, width),
            points.flatten(0, 1),
            padding_mode='border',
            align_corners=False,
        )
        return y.reshape(n, c, s * height, s * width).to(x.dtype)
