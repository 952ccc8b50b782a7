"""IndexNet: learned indices for upsampling (arXiv 1908.00672, ICCV 2019; 1908.09895).

The index networks are those of poppinace/indexnet_matting (``HolisticIndexBlock`` and
``DepthwiseM2OIndexBlock``), the layer around them that of the FADE authors' segmentation logs, and
the names are theirs. Where the published figures part: the parameters and FLOPs beside 41.50 mIoU
on ADE20K are those of the holistic network, nonlinear and with context, which is the default here;
the log of that very mIoU trained ``network='m2o', nonlinear=False, context=False``.

The paper's indices for max pooling, normalised with a softmax, guide down-sampling only and are
left out; those for upsampling are the sigmoid alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops import reassemble
from fade_mm.ops.checks import check_positive
from fade_mm.ops.geometry import fit_size, pixel_shuffle

from .base import Upsampler, View
from .registry import register_upsampler


def _index_block(
    channels: int, hidden: int, out: int, nonlinear: bool, context: bool, factory: dict
) -> list:
    """Layers that make ``out`` indices from every 2x2 (with context: 4x4) patch."""
    kernel_size = 4 if context else 2
    if not nonlinear:
        return [nn.Conv2d(channels, out, kernel_size, stride=2, bias=False, **factory)]
    return [
        nn.Conv2d(channels, hidden, kernel_size, stride=2, bias=False, **factory),
        nn.BatchNorm2d(hidden, **factory),
        nn.ReLU6(),
        nn.Conv2d(hidden, out, 1, bias=False, **factory),
    ]


class HolisticIndexNetwork(nn.Module):
    """One index map for all channels.

    Args:
        channels: Channels C of the encoder feature.
        hidden: Hidden channels.
        nonlinear: Put hidden channels, batch norm and ReLU6 in between.
        context: Look at 4x4 points instead of 2x2.
        factory: ``device`` and ``dtype`` of the weights.
    """

    def __init__(
        self, channels: int, hidden: int, nonlinear: bool, context: bool, factory: dict
    ) -> None:
        super().__init__()
        layers = _index_block(channels, hidden, 4, nonlinear, context, factory)
        self.indexnet = nn.Sequential(*layers) if nonlinear else layers[0]

    def forward(self, x: Tensor) -> Tensor:
        """Indices ``(N, 4, H, W)`` before the sigmoid, from ``(N, C, ...)`` padded already."""
        return self.indexnet(x)


class M2OIndexNetwork(nn.Module):
    """An index map for every channel from all channels ("depthwise, many to one").

    Args:
        channels, hidden, nonlinear, context, factory: As in `HolisticIndexNetwork`.
    """

    def __init__(
        self, channels: int, hidden: int, nonlinear: bool, context: bool, factory: dict
    ) -> None:
        super().__init__()
        for i in range(1, 5):
            layers = _index_block(channels, hidden, channels, nonlinear, context, factory)
            self.add_module(f'indexnet{i}', nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """Indices ``(N, 4 * C, H, W)`` before the sigmoid, from ``(N, C, ...)`` padded already."""
        return torch.stack([network(x) for network in self.children()], dim=2).flatten(1, 2)


_NETWORKS = {'holistic': HolisticIndexNetwork, 'm2o': M2OIndexNetwork}


@register_upsampler('indexnet')
class IndexNet(Upsampler):
    """IndexNet upsampling, ``up(en, de)``: nearest-neighbour times an index in (0, 1) from ``en``.

    ``en`` is padded with zeros to an even size where it is odd, and the indices are cropped.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature; a network of an index per channel needs
            equal numbers. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions; the networks are made for 2. Default: 2.
        network: ``'holistic'`` (one index for all channels) or ``'m2o'`` (one per channel, from
            all of them). Default: ``'holistic'``.
        nonlinear: Use a hidden layer with batch norm and ReLU6. Default: True.
        context: Look at 4x4 points instead of 2x2. Default: True.
        hidden_channels: Channels of the hidden layer. Default: ``None``, as ``hidden_ratio`` says.
        hidden_ratio: Channels of the hidden layer as a multiple of C. The authors' code has 1 for
            ``'m2o'``; published parameters of matting models (+12.26M) fit 2 alone
            (``'indexnet_matting'``). Default: ``None``, 2 for ``'holistic'``, 1 for ``'m2o'``.
        device, dtype: Where and what the weights are. Default: PyTorch's.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: arXiv 1908.00672, section 4.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import IndexNet
        >>> IndexNet(8)(torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 7, 9])
    """

    _weighed = ('en',)

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        network: str = 'holistic',
        nonlinear: bool = True,
        context: bool = True,
        hidden_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        hidden_ratio: int | None = None,
    ) -> None:
        super().__init__()
        in_channels_de = in_channels_en if in_channels_de is None else in_channels_de
        check_positive(in_channels_en=in_channels_en, in_channels_de=in_channels_de)
        if scale_factor != 2:
            raise ValueError(f'IndexNet upsamples by 2, got scale_factor={scale_factor!r}')
        if network not in _NETWORKS:
            raise ValueError(f'network must be one of {", ".join(_NETWORKS)}, got {network!r}')
        if network == 'm2o' and in_channels_en != in_channels_de:
            raise ValueError(
                "network='m2o' makes an index per channel, so en and de must have equally many, "
                f"got {in_channels_en} and {in_channels_de}; use network='holistic'"
            )
        if hidden_channels is None:
            ratio = (2 if network == 'holistic' else 1) if hidden_ratio is None else hidden_ratio
            check_positive(hidden_ratio=ratio)
            hidden_channels = in_channels_en * ratio
        elif hidden_ratio is not None:
            raise ValueError('give hidden_channels or hidden_ratio, not both')
        check_positive(hidden_channels=hidden_channels)
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        # One point more at the end than at the start: an odd size counts as the next even one,
        # and an even one never sees it.
        self.padding = [1, 2, 1, 2] if context else [0, 1, 0, 1]
        self.network = network
        self.nonlinear = nonlinear
        self.context = context
        self.hidden_channels = hidden_channels
        self.index_net = _NETWORKS[network](
            in_channels_en, hidden_channels, nonlinear, context, dict(device=device, dtype=dtype)
        )

    def index(self, en: Tensor) -> Tensor:
        """The index in (0, 1), ``(N, 1, h, w)`` or, one per channel, ``(N, C, h, w)``."""
        index = pixel_shuffle(self.index_net(F.pad(en, self.padding)).sigmoid(), 2)
        return fit_size(index, en.shape[2:])

    def upsample(self, en: Tensor, de: Tensor) -> Tensor:
        """Nearest-neighbour upsampling times the index, as a reassembly with 1x1 kernels."""
        n, channels, height, width = de.shape
        index = self.index(en)
        _, groups, h, w = index.shape
        y = reassemble(
            de.reshape(n * groups, channels // groups, height, width),
            index.reshape(n * groups, 1, h, w),
        )
        return y.reshape(n, channels, h, w)

    def views(self, en: Tensor, de: Tensor) -> list[View]:
        """The index."""
        meaning = 'what the nearest point of de is multiplied by, for all channels or for each'
        return [View('index', self.index(en), meaning)]
