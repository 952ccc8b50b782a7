"""LDA-AQU: Adaptive Query-guided Upsampling via Local Deformable Attention (arXiv 2411.19585, ACM
Multimedia 2024).

The layers, names and initialisation are those of duzw9311/LDA-AQU with one head, as its configs
have it. As there, the corner points of the output lie on those of the input, and points are moved
in steps of the output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops.checks import check_odd, check_positive
from fade_mm.ops.fx import leaf

from .base import DecoderUpsampler, View, reset, start
from .pointwise import pointwise
from .registry import register_upsampler
from .sapa_d import affinities, assemble, weights_view


class ChannelNorm(nn.Module):
    """`nn.LayerNorm` over the channels of ``(N, C, H, W)``.

    Args:
        channels: C.
        factory: ``device`` and ``dtype`` of the weights.
    """

    def __init__(self, channels: int, factory: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """``x``, each point normalised."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@register_upsampler('lda_aqu')
class LDAAQU(DecoderUpsampler):
    """LDA-AQU upsampling, ``up(de)``: attention of an interpolated point to points around it, which
    it moves.

    Args:
        in_channels: Channels C of the feature.
        scale_factor: Upsampling ratio s. Default: 2.
        reduction_factor: Queries and keys have ``C / reduction_factor`` channels. Default: 4.
        up_kernel_size: Size K of the window of points, odd. Default: 3.
        encoder_kernel_size: Size of the convolution that moves them, odd. Default: 3.
        groups: Groups of channels with points of their own; divides C and the channels of queries.
            Default: 2.
        range_factor: How far a point may be moved, in points of the output. Default: 11.
        device, dtype: Where and what the weights are. Default: PyTorch's.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: arXiv 2411.19585, and the released code.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import LDAAQU
        >>> LDAAQU(8)(torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 8, 10])
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        reduction_factor: int = 4,
        up_kernel_size: int = 3,
        encoder_kernel_size: int = 3,
        groups: int = 2,
        range_factor: float = 11,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            scale_factor=scale_factor,
            reduction_factor=reduction_factor,
            groups=groups,
        )
        check_odd(up_kernel_size=up_kernel_size, encoder_kernel_size=encoder_kernel_size)
        hidden = in_channels // reduction_factor
        if in_channels % groups or hidden % groups or not hidden:
            raise ValueError(
                'groups must divide in_channels and in_channels // reduction_factor, got groups='
                f'{groups}, in_channels={in_channels} and reduction_factor={reduction_factor}'
            )
        self.in_channels = self.in_channels_de = in_channels
        self.scale_factor = scale_factor
        self.reduction_factor = reduction_factor
        self.up_kernel_size = up_kernel_size
        self.encoder_kernel_size = encoder_kernel_size
        self.groups = groups
        self.range_factor = range_factor
        factory = dict(device=device, dtype=dtype)
        of_group, taps = hidden // groups, up_kernel_size**2
        self.proj_q = nn.Conv2d(in_channels, hidden, 1, bias=False, **factory)
        self.proj_k = nn.Conv2d(in_channels, hidden, 1, bias=False, **factory)
        depthwise = dict(padding=1, groups=of_group, bias=False)
        padding = encoder_kernel_size // 2
        self.conv_offset = nn.Sequential(
            nn.Conv2d(of_group, of_group, 3, **depthwise, **factory),
            ChannelNorm(of_group, factory),
            nn.GELU(),
            nn.Conv2d(of_group, 2 * taps, encoder_kernel_size, padding=padding, **factory),
        )
        self.layer_norm = ChannelNorm(in_channels, factory)
        table = torch.empty(1, 1, 1, taps, hidden, **factory)
        self.relative_position_bias_table = nn.Parameter(table)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform convolutions, but zeros in that which moves points, PyTorch's layer norms,
        truncated normal position biases (std 0.02)."""
        start(self, nn.init.xavier_uniform_)
        start(self.conv_offset[-1], nn.init.zeros_)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                reset(module)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def enlarge(self, de: Tensor) -> Tensor:
        """``de`` ``(N, C, H, W)`` as ``(N, C, s * H, s * W)``."""
        query, key, offsets = self._embedded(de)
        points = self._points(de, offsets)
        return assemble(de, points, self._kernels(query, key, points))

    def _views(self, de: Tensor) -> list[View]:
        query, key, offsets = self._embedded(de)
        points = self._points(de, offsets)
        unmoved = self._points(de, torch.zeros_like(offsets))
        meaning = (
            'how far a point is moved from its place in the window, in points of de; x of all '
            'points of all groups of channels, then y'
        )
        return [
            weights_view(self._kernels(query, key, points)),
            View('offsets', (points - unmoved).flatten(1, 3), meaning),
        ]

    def _points(self, de: Tensor, offsets: Tensor) -> Tensor:
        """Points in ``de``, moved from their places in the window."""
        return window_points(de, offsets, self.groups, self.up_kernel_size, self.scale_factor)

    def _embedded(self, de: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(N, d, s * H, s * W)``, keys ``(N, d, H, W)`` and offsets ``(N * groups,
        2 * K * K, s * H, s * W)``, of each point y before x, in points of the output."""
        x = self.layer_norm(de)
        query = enlarged(pointwise(self.proj_q, x), self.scale_factor)
        key = pointwise(self.proj_k, x)
        offsets = self.conv_offset(query.unflatten(1, (self.groups, -1)).flatten(0, 1))
        return query, key, self.range_factor * offsets.tanh()

    def _kernels(self, query: Tensor, key: Tensor, points: Tensor) -> Tensor:
        """Weights ``(N, 1, K * K, s * H, s * W)`` of the points, those of all groups the same."""
        table = self.relative_position_bias_table.flatten(0, 3)
        scores = affinities(query, key, points, table).sum(1, keepdim=True)
        return (scores * self.relative_position_bias_table.shape[-1] ** -0.5).softmax(2)


@leaf
def enlarged(x: Tensor, scale_factor: int) -> Tensor:
    """Bilinear interpolation that keeps the corner points where they are."""
    return F.interpolate(x, scale_factor=scale_factor, mode='bilinear', align_corners=True)


@leaf
def window_points(
    de: Tensor, offsets: Tensor, groups: int, kernel_size: int, scale_factor: int
) -> Tensor:
    """Points in ``de`` ``(N, 2, groups, K * K, h, w)``, as `bilinear` takes them of one.

    Args:
        de: Feature ``(N, C, H, W)``.
        offsets: ``(N * groups, 2 * K * K, h, w)``, from the places in the window; see
            `LDAAQU._embedded`.
        groups: Groups of channels.
        kernel_size: Size K of the window.
        scale_factor: Upsampling ratio.
    """
    # Coordinates of large features need more digits than half precision has.
    dtype = torch.promote_types(de.dtype, torch.float32)

    def grid(height: int, width: int) -> Tensor:
        lines = (torch.arange(a, dtype=dtype, device=de.device) for a in (width, height))
        return torch.stack(torch.meshgrid(*lines, indexing='xy'))

    window = grid(kernel_size, kernel_size).reshape(2, 1, -1, 1, 1) - kernel_size // 2
    places = window + grid(*offsets.shape[2:])[:, None, None]  # in points of the output
    moved = offsets.to(dtype).unflatten(0, (-1, groups)).unflatten(2, (-1, 2))
    points = places + moved.flip(3).permute(0, 3, 1, 2, 4, 5)
    if scale_factor == 1:
        return points + 0.5
    across, down = (
        at * (size - 1) / (scale_factor * size - 1)
        for at, size in zip(points.unbind(1), (de.shape[3], de.shape[2]), strict=True)
    )
    return torch.stack([across, down], dim=1) + 0.5
