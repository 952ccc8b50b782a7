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
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from fade_mm.ops import reassemble
from fade_mm.ops.checks import check_dtypes, check_feature, check_pair, check_positive
from fade_mm.ops.sampling import fit_size, pixel_shuffle
from fade_mm.registry import MODELS


def _index_block(channels: int, hidden: int, out: int, nonlinear: bool, context: bool) -> list:
    """Layers that make ``out`` indices from every 2x2 (with context: 4x4) patch."""
    kernel_size = 4 if context else 2
    if not nonlinear:
        return [nn.Conv2d(channels, out, kernel_size, stride=2, bias=False)]
    return [
        nn.Conv2d(channels, hidden, kernel_size, stride=2, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU6(),
        nn.Conv2d(hidden, out, 1, bias=False),
    ]


class HolisticIndexNetwork(nn.Module):
    """One index map for all channels.

    Args:
        channels: Channels C of the encoder feature.
        nonlinear: Put 2C hidden channels, batch norm and ReLU6 in between.
        context: Look at 4x4 points instead of 2x2.
    """

    def __init__(self, channels: int, nonlinear: bool, context: bool) -> None:
        super().__init__()
        layers = _index_block(channels, 2 * channels, 4, nonlinear, context)
        self.indexnet = nn.Sequential(*layers) if nonlinear else layers[0]

    def forward(self, x: Tensor) -> Tensor:
        """Indices ``(N, 4, H, W)`` before the sigmoid, from ``(N, C, ...)`` padded already."""
        return self.indexnet(x)


class M2OIndexNetwork(nn.Module):
    """An index map for every channel from all channels ("depthwise, many to one").

    Args:
        channels, nonlinear, context: As in `HolisticIndexNetwork`, with C hidden channels.
    """

    def __init__(self, channels: int, nonlinear: bool, context: bool) -> None:
        super().__init__()
        for i in range(1, 5):
            layers = _index_block(channels, channels, channels, nonlinear, context)
            self.add_module(f'indexnet{i}', nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """Indices ``(N, 4 * C, H, W)`` before the sigmoid, from ``(N, C, ...)`` padded already."""
        return torch.stack([network(x) for network in self.children()], dim=2).flatten(1, 2)


_NETWORKS = {'holistic': HolisticIndexNetwork, 'm2o': M2OIndexNetwork}


@MMENGINE_MODELS.register_module('indexnet')
@MODELS.register_module('indexnet')
class IndexNet(nn.Module):
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

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    guided = True

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        network: str = 'holistic',
        nonlinear: bool = True,
        context: bool = True,
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
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        # One point more at the end than at the start: an odd size counts as the next even one,
        # and an even one never sees it.
        self.padding = [1, 2, 1, 2] if context else [0, 1, 0, 1]
        self.index_net = _NETWORKS[network](in_channels_en, nonlinear, context)

    def init_weights(self) -> None:
        """PyTorch's own initialisation, as in the authors' segmentation models."""
        for module in self.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()

    def forward(self, en: Tensor, de: Tensor) -> Tensor:
        """Upsample ``de`` ``(N, in_channels_de, H, W)`` to the size of ``en``.

        Raises:
            TypeError, ValueError: the tensors do not fit the layer or each other.
        """
        check_feature('en', en, self.in_channels_en)
        check_feature('de', de, self.in_channels_de)
        check_pair('en', en, de, 2)
        check_dtypes(self, en=en)
        n, (h, w) = en.shape[0], en.shape[2:]
        index = pixel_shuffle(self.index_net(F.pad(en, self.padding)).sigmoid(), 2)
        index = fit_size(index, (h, w))
        groups = index.shape[1]
        y = reassemble(  # 1x1 kernels: nearest-neighbour upsampling times the index
            de.reshape(n * groups, de.shape[1] // groups, *de.shape[2:]),
            index.reshape(n * groups, 1, h, w),
        )
        return y.reshape(n, de.shape[1], h, w)
