"""DySample: learning to upsample by learning to sample (arXiv 2308.15085, ICCV 2023).

Names and initialisation are those of tiny-smart/dysample. Its revisions differ in whether the
dynamic scope has a bias; the one without has the published +49.2K and +6.2K parameters (Panoptic
FPN) and is followed here. The table's rows: DySample is the default, DySample+ has
``dyscope=True``, DySample-S has ``style='pl'``, DySample-S+ both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops.checks import check_positive
from fade_mm.ops.fx import leaf
from fade_mm.ops.geometry import pixel_shuffle, pixel_unshuffle

from .base import DecoderUpsampler, View, start
from .registry import register_upsampler

_GROUPS = {'lp': 4, 'pl': 8}


@register_upsampler('dysample')
class DySample(DecoderUpsampler):
    """DySample upsampling, ``up(de)``: bilinear samples of the feature at learned points.

    Args:
        in_channels: Channels C of the feature.
        scale_factor: Upsampling ratio s. Default: 2.
        style: ``'lp'``: project to offsets, then pixel shuffle; ``'pl'``: pixel shuffle the
            feature first, which needs ``C`` to be a multiple of ``s * s``. Default: ``'lp'``.
        groups: Groups of channels with offsets of their own; divides ``in_channels``. Default: 4
            for ``'lp'``, 8 for ``'pl'``.
        dyscope: Scale the offsets point by point with a factor in (0, 0.5) instead of 0.25.
            Default: False.
        device, dtype: Where and what the weights are. Default: PyTorch's.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: arXiv 2308.15085, section 3.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import DySample
        >>> DySample(8)(torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 8, 10])
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        style: str = 'lp',
        groups: int | None = None,
        dyscope: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
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
        self.in_channels = self.in_channels_de = in_channels
        self.scale_factor = scale_factor
        self.style = style
        self.groups = groups
        self.dyscope = dyscope
        widths = (in_channels, 2 * groups * phases)
        if style == 'pl':
            widths = (in_channels // phases, 2 * groups)
        factory = dict(device=device, dtype=dtype)
        self.offset = nn.Conv2d(*widths, 1, **factory)
        self.scope = nn.Conv2d(*widths, 1, bias=False, **factory) if dyscope else None
        self.register_buffer('init_pos', torch.empty(1, 2 * groups * phases, 1, 1, **factory))
        self.init_weights()

    def init_weights(self) -> None:
        """Small-normal offsets (std 0.001), zero scope, zero biases; the phases' own positions."""
        start(self.offset, lambda weight: nn.init.normal_(weight, std=0.001))
        if self.scope is not None:
            start(self.scope, nn.init.zeros_)
        with torch.no_grad():
            self.init_pos.copy_(own_places(self.groups, self.scale_factor))

    def offsets(self, de: Tensor) -> Tensor:
        """Learned offsets ``(N, 2 * groups * s * s, H, W)``, in points of ``de``; those in x first.

        In each half, the groups come first, then a point's rows and columns.
        """
        source = pixel_shuffle(de, self.scale_factor) if self.style == 'pl' else de
        offset = self.offset(source)
        offset = offset * (0.25 if self.scope is None else 0.5 * self.scope(source).sigmoid())
        return pixel_unshuffle(offset, self.scale_factor) if self.style == 'pl' else offset

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, C, H, W)`` as ``(N, C, s * H, s * W)``."""
        return sample(de, self.offsets(de), self.init_pos, self.scale_factor)

    def _views(self, de: Tensor) -> list[View]:
        offsets = pixel_shuffle(self.offsets(de), self.scale_factor)
        meaning = (
            'how far from its own place an output point samples, in points of de; x of all groups '
            'of channels, then y'
        )
        return [View('offsets', offsets, meaning)]


def own_places(groups: int, scale_factor: int) -> Tensor:
    """Where the sub-pixels of a point lie, from its centre: ``(1, 2 * groups * s * s, 1, 1)``."""
    s = scale_factor
    # On a CPU: not every device has float64.
    at = (torch.arange(s, dtype=torch.float64, device='cpu') - (s - 1) / 2) / s
    y, x = torch.meshgrid(at, at, indexing='ij')
    return torch.stack([x, y])[:, None].expand(-1, groups, -1, -1).reshape(1, -1, 1, 1)


@leaf
def sample(de: Tensor, offsets: Tensor, init_pos: Tensor, scale_factor: int) -> Tensor:
    """Bilinear samples of each group of channels of ``de``.

    Args:
        de: Feature ``(N, C, H, W)``.
        offsets: From the points' own places, as `DySample.offsets` gives them.
        init_pos: Those places, as `own_places` gives them.
        scale_factor: Upsampling ratio s.

    Returns:
        The samples ``(N, C, s * H, s * W)`` in the dtype of ``de``.
    """
    own = centres(de)
    points = (offsets.to(own.dtype) + init_pos.to(own.dtype)).unflatten(1, (2, -1))
    return bilinear(de, pixel_shuffle(points + own, scale_factor))


def centres(x: Tensor) -> Tensor:
    """The points' own places in ``x`` ``(N, C, H, W)``, ``(2, 1, H, W)``; see `bilinear`."""
    # Coordinates of large features need more digits than half precision has.
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows, cols = (torch.arange(a, dtype=dtype, device=x.device) for a in x.shape[2:])
    return torch.stack(torch.meshgrid(cols, rows, indexing='xy'))[:, None] + 0.5


def bilinear(x: Tensor, points: Tensor, outside: str = 'border') -> Tensor:
    """Bilinear samples of groups of channels.

    Args:
        x: Feature ``(N, C, H, W)``.
        points: Where, ``(N, 2, groups, h, w)``, from the feature's corner; x, then y.
        outside: What is outside: ``'border'``, as at the border, or ``'zeros'``. Default:
            ``'border'``.

    Returns:
        The samples ``(N, C, h, w)`` in the dtype of ``x``.
    """
    (n, c, height, width), groups = x.shape, points.shape[2]
    at_x, at_y = points.unbind(1)
    grid = torch.stack([2 * at_x / width - 1, 2 * at_y / height - 1], dim=-1)
    y = F.grid_sample(
        x.to(points.dtype).reshape(n * groups, c // groups, height, width),
        grid.flatten(0, 1),
        padding_mode=outside,
        align_corners=False,
    )
    return y.reshape(n, c, *points.shape[3:]).to(x.dtype)
