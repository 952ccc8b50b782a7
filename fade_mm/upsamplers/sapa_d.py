"""SAPA-D: On Point Affiliation in Feature Upsampling (arXiv 2307.08198), dynamic selection.

The layers, names and initialisation are those of ``SAPADeform`` in tiny-smart/sapa with its
defaults: neither feature is normalised, similarities are not scaled, and offsets are made of the
decoder feature, for each sub-pixel. At 256 channels it has 139,808 parameters, as all published
figures but UPerNet's say (+0.1M, of a layer that has 0.28M there).

Theirs takes exact ratios only. At other sizes, where rounding down leaves a row or a column over,
it takes the offsets of the last one, and at equal sizes those of the first sub-pixels.
"""

import torch
from torch import Tensor, nn

from fade_mm.ops.checks import check_positive
from fade_mm.ops.fx import leaf
from fade_mm.ops.geometry import nearest_up, pixel_shuffle

from .base import Upsampler, View, start
from .dysample import bilinear, centres
from .kernel_generators import strided
from .pointwise import pointwise
from .registry import register_upsampler


@register_upsampler('sapa_d')
class SAPAD(Upsampler):
    """SAPA-D upsampling, ``up(en, de)``: each output point chooses decoder points, and weighs them
    by the softmax of their similarity with the encoder point.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions. Default: 2.
        num_points: Points that each group of channels chooses. Default: 9.
        groups: Groups of channels with points and weights of their own; divides
            ``in_channels_de``. Default: 4.
        embedding_dim: Channels that a group of both features is embedded in. Default: 32.
        device, dtype: Where and what the weights are. Default: PyTorch's.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: arXiv 2307.08198, and the released code.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import SAPAD
        >>> SAPAD(8)(torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 7, 9])
    """

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        num_points: int = 9,
        groups: int = 4,
        embedding_dim: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        in_channels_de = in_channels_en if in_channels_de is None else in_channels_de
        check_positive(
            in_channels_en=in_channels_en,
            in_channels_de=in_channels_de,
            scale_factor=scale_factor,
            num_points=num_points,
            groups=groups,
            embedding_dim=embedding_dim,
        )
        if in_channels_de % groups:
            raise ValueError(
                f'groups must divide in_channels_de, got {groups} and {in_channels_de}'
            )
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        self.scale_factor = scale_factor
        self.num_points = num_points
        self.groups = groups
        self.embedding_dim = embedding_dim
        embedded, coordinates = groups * embedding_dim, 2 * groups * num_points
        factory = dict(device=device, dtype=dtype)
        self.q = nn.Conv2d(in_channels_en, embedded, 1, **factory)
        self.k = nn.Conv2d(in_channels_de, embedded, 1, **factory)
        self.offset = nn.Conv2d(in_channels_de, coordinates * scale_factor**2, 1, **factory)
        self.init_weights()

    def init_weights(self) -> None:
        """Normal weights (std 0.02), zero biases."""
        start(self, lambda weight: nn.init.normal_(weight, std=0.02))

    def upsample(self, en: Tensor, de: Tensor) -> Tensor:
        """Weigh the chosen points of ``de``."""
        points = points_of(de, self._offsets(en, de), self.groups, self.scale_factor)
        return assemble(de, points, self._kernels(en, de, points))

    def views(self, en: Tensor, de: Tensor) -> list[View]:
        """The weights ``(N * groups, num_points, h, w)``, and where the points are, ``(N,
        2 * groups * num_points, h, w)``."""
        offsets = self._offsets(en, de)
        points = points_of(de, offsets, self.groups, self.scale_factor)
        return [
            weights_view(self._kernels(en, de, points)),
            View(
                'offsets',
                offsets.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2),
                'how far a chosen point lies from the centre of the cell, in points of de; x of '
                'all points of all groups of channels, then y',
            ),
        ]

    def _offsets(self, en: Tensor, de: Tensor) -> Tensor:
        """``(N, groups * num_points * 2, h, w)``, in points of ``de``; x before y of each point."""
        offsets = pixel_shuffle(pointwise(self.offset, de), self.scale_factor)
        return strided(offsets, en.shape[2:], de.shape[2:], self.scale_factor)

    def _kernels(self, en: Tensor, de: Tensor, points: Tensor) -> Tensor:
        """Weights ``(N, groups, num_points, h, w)`` of the points."""
        return affinities(pointwise(self.q, en), pointwise(self.k, de), points).softmax(2)


@leaf
def points_of(de: Tensor, offsets: Tensor, groups: int, scale_factor: int) -> Tensor:
    """Points in ``de`` ``(N, 2, groups, num_points, h, w)``, as `bilinear` takes them of one.

    Args:
        de: Feature ``(N, C, H, W)``.
        offsets: ``(N, groups * num_points * 2, h, w)``, from the centres of the cells.
        groups: Groups of channels.
        scale_factor: Ratio of the two resolutions.
    """
    own = nearest_up(centres(de), offsets.shape[2:], scale_factor)
    offsets = offsets.to(own.dtype).unflatten(1, (groups, -1, 2)).permute(0, 3, 1, 2, 4, 5)
    return own[:, :, None] + offsets


@leaf
def affinities(query: Tensor, key: Tensor, points: Tensor, bias: Tensor | None = None) -> Tensor:
    """Inner products of groups of channels of a query with those of a key at points.

    Args:
        query: ``(N, C, h, w)``.
        key: ``(N, C, H, W)``, 0 outside.
        points: ``(N, 2, groups, num_points, h, w)``.
        bias: Added to the keys of each point, ``(num_points, C)``. Default: none.

    Returns:
        ``(N, groups, num_points, h, w)``, in the dtype of the points.
    """
    groups = points.shape[2]
    query, key = (x.to(points.dtype) for x in (query, key))
    query = query.unflatten(1, (groups, -1))
    scores = []
    for i, at in enumerate(points.unbind(3)):
        sample = bilinear(key, at, 'zeros')
        if bias is not None:
            sample = sample + bias[i].to(sample.dtype)[:, None, None]
        scores.append(torch.linalg.vecdot(query, sample.unflatten(1, (groups, -1)), dim=2))
    return torch.stack(scores, dim=2)


@leaf
def assemble(value: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of a feature at points, one at a time, which needs the least memory.

    Args:
        value: ``(N, C, H, W)``, 0 outside.
        points: ``(N, 2, groups, num_points, h, w)``.
        weights: ``(N, groups or 1, num_points, h, w)``.

    Returns:
        ``(N, C, h, w)`` in the dtype of ``value``.
    """
    dtype, groups = value.dtype, points.shape[2]
    value, weights = (x.to(points.dtype) for x in (value, weights))
    y = value.new_zeros(())
    for at, weight in zip(points.unbind(3), weights.unbind(2), strict=True):
        sample = bilinear(value, at, 'zeros').unflatten(1, (groups, -1))
        y = torch.addcmul(y, weight[:, :, None], sample)
    return y.flatten(1, 2).to(dtype)


def weights_view(weights: Tensor) -> View:
    """The view of weights ``(N, groups, num_points, h, w)`` of points that were chosen."""
    meaning = 'weights of the points that were chosen; groups of channels lie along the batch'
    return View('kernels', weights.flatten(0, 1), meaning, in_window=False)
