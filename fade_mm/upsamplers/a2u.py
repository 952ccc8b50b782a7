"""A2U: affinity-aware upsampling (Dai et al., "Learning Affinity-Aware Upsampling for Deep Image
Matting", CVPR 2021).

The kernels are those of dongdong93/a2u_matting (``InterChannelUpDown`` of second order, shared by
all channels, rank 1), the layer around them that of the FADE authors' segmentation logs, and the
names are theirs. The authors normalise with the softmax of a sigmoid, where the paper says softmax.
The published +0.12M of SegFormer-B1 count the branch for down-sampling, which upsampling never
uses; the detection models were built without.
"""

import warnings
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops import reassemble
from fade_mm.ops.checks import check_odd, check_positive, is_exporting
from fade_mm.ops.fx import leaf
from fade_mm.ops.geometry import fit_size, pixel_shuffle

from .base import Upsampler, View, kernels_view
from .by_group import check_groups, reassemble_by_group
from .registry import register_upsampler

_KERNEL_SIZE = 6  # of the convolutions whose weights are pooled from the feature itself


class _GroupNorm(nn.GroupNorm):
    """Without PyTorch's refusal of groups of one value, as a small map has: it becomes the bias."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class _AveragePool(nn.AdaptiveAvgPool2d):
    """In an exported program, as two products, which hold for all sizes.

    PyTorch's exporters write down the cells of the one size that they see.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not is_exporting():
            return super().forward(x)
        rows, cols = (self._averages(size, x) for size in x.shape[2:])
        return rows @ x @ cols.T

    def _averages(self, size: int, x: Tensor) -> Tensor:
        """``(cells, size)``: of each cell, the shares of the points that it averages."""
        cells = torch.arange(self.output_size, device=x.device)[:, None]
        first = cells * size // self.output_size
        end = ((cells + 1) * size + self.output_size - 1) // self.output_size
        points = torch.arange(size, device=x.device)
        return ((points >= first) & (points < end)).to(x.dtype) / (end - first)


def _pooled(size: int, in_channels: int, out_channels: int, factory: dict) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 1, **factory)
    return nn.Sequential(_AveragePool(size), conv)


@leaf
def convolved(x: Tensor, weights: Tensor) -> Tensor:
    """A 6x6 convolution with stride 2 of each image with weights of its own.

    Args:
        x: Feature ``(N, C, h, w)``, padded with zeros to even sizes.
        weights: Weights ``(N, 1, 6, 6)``, shared by all channels.

    Returns:
        The result ``(N, C, h / 2, w / 2)``, rounded up.
    """
    # That is a 3x3 convolution of each of the four sub-pixels, added up, and one kernel for all
    # points of a reassembly.
    subpixels = _subpixels(x)
    kernels = _subpixels(weights).flatten(1)[..., None, None].expand(-1, -1, *subpixels.shape[2:])
    return reassemble(subpixels, kernels, 1).unflatten(0, (x.shape[0], 4)).sum(1)


def _subpixels(x: Tensor) -> Tensor:
    """``(N, C, h, w)``, padded to even sizes, as ``(4 * N, C, h / 2, w / 2)``."""
    n, c, h, w = x.shape
    x = F.pad(x, [0, w % 2, 0, h % 2]).reshape(n, c, (h + 1) // 2, 2, (w + 1) // 2, 2)
    return x.permute(0, 3, 5, 1, 2, 4).flatten(0, 2)


class AffinityKernelGenerator(nn.Module):
    """Kernel logits from the affinity of two views of the encoder feature.

    Args:
        channels: Channels of the encoder feature.
        up_kernel_size: Upsampling kernel size K.
        num_groups: Groups of the two group norms.
        downsampling: Build the branch that makes kernels for down-sampling.
        up_group: Groups of channels with kernels of their own: that many times K*K logits.
        factory: ``device`` and ``dtype`` of the weights.
    """

    def __init__(
        self,
        channels: int,
        up_kernel_size: int,
        num_groups: int,
        downsampling: bool,
        up_group: int,
        factory: dict,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.bnu = nn.Sequential(_GroupNorm(num_groups, channels, **factory), nn.LeakyReLU())
        self.bnv = nn.Sequential(_GroupNorm(num_groups, channels, **factory), nn.LeakyReLU())
        taps = (2 * up_kernel_size) ** 2
        self.bconv_UP = _pooled(1, channels, taps * up_group, factory)
        if downsampling:
            self.bconv_DP = _pooled(1, channels, taps, factory)
        self.bconv_U = _pooled(_KERNEL_SIZE, channels, 1, factory)
        self.bconv_V = _pooled(_KERNEL_SIZE, channels, 1, factory)

    def forward(self, en: Tensor) -> Tensor:
        """Logits ``(N, up_group * K*K, h, w)`` from ``en`` ``(N, C, h, w)``."""
        u = self.bnu(convolved(en, self.bconv_U(en)))
        v = self.bnv(convolved(en, self.bconv_V(en)))
        affinity = torch.linalg.vecdot(u, v, dim=1) / sqrt(self.channels)
        logits = self.bconv_UP(en).flatten(2) @ affinity.flatten(1).unsqueeze(1)
        logits = pixel_shuffle(logits.unflatten(2, affinity.shape[1:]), 2)
        return fit_size(logits, en.shape[2:]).sigmoid()


@register_upsampler('a2u')
class A2U(Upsampler):
    """A2U upsampling, ``up(en, de)``; the kernels come from the encoder feature alone.

    ``en`` is padded with zeros to an even size where it is odd, and the kernels are cropped.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions; the kernels are made for 2. Default: 2.
        up_kernel_size: Upsampling kernel size K, odd. Default: 3.
        num_groups: Groups of the group norms; divides ``in_channels_en``. Default: 32.
        downsampling: Keep the authors' branch for down-sampling, which gets no gradient: it is in
            the published +0.12M. Data-parallel training with it needs
            ``find_unused_parameters=True``. Without it, its weights in a file are not loaded, and a
            warning says so. Default: False.
        device, dtype: Where and what the weights are. Default: PyTorch's.
        up_group: Groups of channels with kernels of their own; divides ``in_channels_de``. More
            than one is ours, not the paper's, and has no published figures; the
            affinity stays one for all. Default: 1.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: CVPR 2021, "Learning Affinity-Aware Upsampling for Deep Image Matting", section 3.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import A2U
        >>> A2U(32)(torch.rand(1, 32, 7, 9), torch.rand(1, 32, 4, 5)).shape
        torch.Size([1, 32, 7, 9])
    """

    _weighed = ('en',)

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        up_kernel_size: int = 3,
        num_groups: int = 32,
        downsampling: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        up_group: int = 1,
    ) -> None:
        super().__init__()
        in_channels_de = in_channels_en if in_channels_de is None else in_channels_de
        check_positive(
            in_channels_en=in_channels_en, in_channels_de=in_channels_de, num_groups=num_groups
        )
        check_odd(up_kernel_size=up_kernel_size)
        check_groups('in_channels_de', in_channels_de, up_group)
        if scale_factor != 2:
            raise ValueError(f'A2U upsamples by 2, got scale_factor={scale_factor!r}')
        if in_channels_en % num_groups:
            raise ValueError(
                f'num_groups must divide in_channels_en, got {num_groups} and {in_channels_en}'
            )
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        self.up_kernel_size = up_kernel_size
        self.num_groups = num_groups
        self.downsampling = downsampling
        self.up_group = up_group
        self.kernel_gen = AffinityKernelGenerator(
            in_channels_en,
            up_kernel_size,
            num_groups,
            downsampling,
            up_group,
            dict(device=device, dtype=dtype),
        )
        if not downsampling:
            self._register_load_state_dict_pre_hook(_drop_downsampling, with_module=True)

    def upsample(self, en: Tensor, de: Tensor) -> Tensor:
        """Reassemble ``de`` with kernels of ``en``."""
        return reassemble_by_group(de, self.kernel_gen(en), self.up_group)

    def views(self, en: Tensor, de: Tensor) -> list[View]:
        """The kernels, ``(N * up_group, K*K, h, w)``."""
        return [kernels_view(self.kernel_gen(en), self.up_group)]


def _drop_downsampling(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Take the branch that the layer does not have out of a state dict, in place."""
    unused = [key for key in state_dict if key.startswith(f'{prefix}kernel_gen.bconv_DP.')]
    for key in unused:
        del state_dict[key]
    if unused:
        warnings.warn(
            "A2U's weights for down-sampling are not loaded: upsampling never uses them "
            '(downsampling=True keeps them)',
            stacklevel=2,
        )
