"""The decoder of BTS, "From Big to Small" (Lee et al., arXiv 1907.10326), with upsamplers."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fade_mm.ops.geometry import fit_size, is_recorded
from fade_mm.registry import MODELS

from .head import LOSS, DepthHead, at_least_float32, nearest

_RATES = (3, 6, 12, 18, 24)
_INIT = dict(type='Xavier', layer='Conv2d', distribution='uniform')


@MODELS.register_module()
class BTSHead(DepthHead):
    """BTS's decoder: dense atrous convolutions, and local planes that guide the finer levels.

    The upsamplers replace the nearest-neighbour interpolation before the convolutions
    ``upconv5`` to ``upconv2``; the last, from half of the image's size to all of it, has no encoder
    feature and stays. Parameters have the names of the released decoder.

    Args:
        in_channels: Channels of the features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's size.
        channels: Channels after the first step, a multiple of 16; the others follow.
            Default: 512.
        max_depth: The largest depth that can be predicted, in metres. Default: 10.0.
        upsample_cfg: Config of the upsamplers; see `build_upsampler` (FADE's gate is off in all
            steps unless asked for: encoder and decoder feature have as many channels in one step
            alone). Default: ``None``, nearest-neighbour interpolation.
        loss_decode: Config of a loss, or of several. Default: `SILogLoss`.
        init_cfg: As in mmengine's ``BaseModule``. Default: Xavier-uniform convolutions.

    Raises:
        TypeError, ValueError: an argument is wrong; an upsampler needs equal channels.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (64, 256, 512, 1024, 2048),
        channels: int = 512,
        max_depth: float = 10.0,
        upsample_cfg: dict | None = None,
        loss_decode: dict | Sequence[dict] = LOSS,
        init_cfg: dict | None = _INIT,
    ) -> None:
        if len(in_channels) != 5:
            raise ValueError(
                'BTSHead needs features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size, got '
                f'in_channels={tuple(in_channels)}; for a ResNet, write '
                "backbone=dict(type='fade_mm.ResNet', with_stem=True)"
            )
        if channels < 16 or channels % 16:
            raise ValueError(f'channels must be a multiple of 16, got {channels}')
        e2, e4, e8, e16, e32 = in_channels
        c5, c4, c3, c2, c1 = (channels // 2**i for i in range(5))
        super().__init__(
            in_channels,
            max_depth,
            upsample_cfg,
            steps=[(e16, e32), (e8, c5), (e4, c3), (e2, c3)],
            gating=False,
            loss_decode=loss_decode,
            init_cfg=init_cfg,
        )
        self.channels = channels
        self.upconv5, self.bn5, self.conv5 = _upconv(e32, c5), _norm(c5), _conv(c5 + e16, c5)
        self.upconv4, self.bn4, self.conv4 = _upconv(c5, c4), _norm(c4), _conv(c4 + e8, c4)
        self.bn4_2 = _norm(c4)
        for i, rate in enumerate(_RATES):
            inputs = c4 + e8 + i * c3 if i else c4
            self.add_module(f'daspp_{rate}', _AtrousConv(inputs, c4, c3, rate, first_norm=i > 0))
        self.daspp_conv = _conv(c4 + len(_RATES) * c3, c3)
        self.reduc8x8, self.plane8 = _Reduction(c3, c3), LocalPlane(8, max_depth)
        self.upconv3, self.bn3, self.conv3 = _upconv(c3, c3), _norm(c3), _conv(c3 + e4 + 1, c3)
        self.reduc4x4, self.plane4 = _Reduction(c3, c2), LocalPlane(4, max_depth)
        self.upconv2, self.bn2, self.conv2 = _upconv(c3, c2), _norm(c2), _conv(c2 + e2 + 1, c2)
        self.reduc2x2, self.plane2 = _Reduction(c2, c1), LocalPlane(2, max_depth)
        self.upconv1, self.conv1 = _upconv(c2, c1), _conv(c1 + 4, c1)
        self.reduc1x1 = _Reduction(c1, c1 // 2, is_final=True)
        self.get_depth = nn.Sequential(nn.Conv2d(c1, 1, 3, padding=1, bias=False))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Depth in metres ``(N, 1, 2 * h, 2 * w)``, which hangs over an odd image.

        Args:
            inputs: Features ``(N, in_channels[i], h_i, w_i)``, from fine to coarse, the first one
                ``(N, in_channels[0], h, w)``.
        """
        e2, e4, e8, e16, x = inputs
        h, w = e2.shape[2:]
        full = 2 * h, 2 * w

        en, x = self.climb(0, e16, x)
        x = self.conv5(torch.cat([self.bn5(self.upconv5(x)), en], 1))
        en, x = self.climb(1, e8, x)
        dense = torch.cat([self.bn4(self.upconv4(x)), en], 1)
        x = self._atrous(dense)

        plane8 = self.plane8(self.reduc8x8(x), full)
        en, x = self.climb(2, e4, x)
        guide = fit_size(plane8[:, :, ::4, ::4], e4.shape[2:])
        x = self.conv3(torch.cat([self.bn3(self.upconv3(x)), en, guide.to(x.dtype)], 1))

        plane4 = self.plane4(self.reduc4x4(x), full)
        en, x = self.climb(3, e2, x)
        guide = fit_size(plane4[:, :, ::2, ::2], e2.shape[2:])
        x = self.conv2(torch.cat([self.bn2(self.upconv2(x)), en, guide.to(x.dtype)], 1))

        plane2 = self.plane2(self.reduc2x2(x), full)
        x = self.upconv1(nearest(x, full, 2))
        planes = [plane.to(x.dtype) for plane in (plane2, plane4, plane8)]
        x = self.conv1(torch.cat([x, self.reduc1x1(x).sigmoid(), *planes], 1))
        return self.metres(self.get_depth(x))

    def _atrous(self, dense: Tensor) -> Tensor:
        """The dense atrous convolutions, each of which sees all before it."""
        x = self.bn4_2(self.conv4(dense))
        found = [x]
        for rate in _RATES:
            seen = torch.cat([dense, *found[1:]], 1) if found[1:] else x
            found.append(getattr(self, f'daspp_{rate}')(seen))
        return self.daspp_conv(torch.cat(found, 1))

    def at_size(self, depth: Tensor, size: tuple[int, int]) -> Tensor:
        """The depth without what hangs over the image."""
        if not is_recorded(depth):
            is_twice = all(abs(a - b) < 2 for a, b in zip(depth.shape[2:], size, strict=True))
            if not is_twice:
                raise ValueError(
                    "BTSHead needs a first feature of half the image's size, got "
                    f'{tuple(n // 2 for n in depth.shape[2:])} for an image of {tuple(size)}'
                )
        return fit_size(depth, size)


class LocalPlane(nn.Module):
    """Depth of a plane in each cell of a grid (arXiv 1907.10326, section 3.3).

    Args:
        cell: Height and width of a cell, in pixels.
        max_depth: The largest distance of a plane, in metres.
    """

    def __init__(self, cell: int, max_depth: float) -> None:
        super().__init__()
        self.cell = cell
        self.max_depth = max_depth

    def forward(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """Depth over ``max_depth``, ``(N, 1, *size)``, in float32 at least.

        Args:
            parameters: Of each cell, before the sigmoid: the normal's angles with the ray and
                around it, and the distance; ``(N, 3, H, W)``.
            size: Height and width of the image; what hangs over it is not computed.
        """
        theta, phi, distance = parameters.to(at_least_float32(parameters)).sigmoid().split(1, 1)
        theta, phi = theta * (math.pi / 3), phi * (2 * math.pi)
        plane = torch.cat(
            [theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos(), distance], 1
        )
        x, y, z, distance = nearest(plane, size, self.cell).split(1, 1)
        v, u = (self._offsets(n, distance) for n in size)
        return distance / (x * u + y * v[:, None] + z)

    def _offsets(self, size: int, like: Tensor) -> Tensor:
        """Where pixels are in their cell, from -1/2 to 1/2."""
        pixel = torch.arange(size, device=like.device) % self.cell
        return ((pixel - (self.cell - 1) / 2) / self.cell).to(like.dtype)

    def extra_repr(self) -> str:
        """The arguments."""
        return f'cell={self.cell}, max_depth={self.max_depth}'


class _AtrousConv(nn.Module):
    """A bottleneck with a dilated convolution, each after its norm and ReLU."""

    def __init__(
        self, in_channels: int, mid_channels: int, channels: int, rate: int, first_norm: bool
    ) -> None:
        super().__init__()
        layers = OrderedDict()
        if first_norm:
            layers['first_bn'] = _norm(in_channels)
        layers['aconv_sequence'] = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(in_channels, mid_channels, 1, bias=False),
            nn.BatchNorm2d(mid_channels, momentum=0.01),
            nn.ReLU(),
            nn.Conv2d(mid_channels, channels, 3, padding=rate, dilation=rate, bias=False),
        )
        self.atrous_conv = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.atrous_conv(x)


class _Reduction(nn.Module):
    """1x1 convolutions that halve the channels down to 8, and one for the result."""

    def __init__(self, in_channels: int, channels: int, is_final: bool = False) -> None:
        super().__init__()
        layers = OrderedDict()
        while channels >= 8:
            layers[f'inter_{in_channels}_{channels}'] = _conv(in_channels, channels, 1)
            in_channels, channels = channels, channels // 2
        last = nn.Conv2d(in_channels, 1 if is_final else 3, 1, bias=False)
        layers |= {'final': nn.Sequential(last)} if is_final else {'plane_params': last}
        self.reduc = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduc(x)


def _conv(in_channels: int, channels: int, size: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.ELU())


def _upconv(in_channels: int, channels: int) -> nn.Sequential:
    conv, act = _conv(in_channels, channels)
    return nn.Sequential(OrderedDict(conv=conv, act=act))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1.1e-5, momentum=0.01)
