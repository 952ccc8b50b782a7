"""A2U: affinity-aware upsampling (Dai et al., "Learning Affinity-Aware Upsampling for Deep Image
Matting", CVPR 2021).

The kernels are those of dongdong93/a2u_matting (``InterChannelUpDown`` of second order, shared by
all channels, rank 1), the layer around them that of the FADE authors' segmentation logs, and the
names are theirs. The authors normalise with the softmax of a sigmoid, where the paper says softmax.
The published +0.12M of SegFormer-B1 count the branch for down-sampling, which upsampling never
uses; the detection models were built without.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from fade_mm.ops import gated_reassemble, reassemble
from fade_mm.ops.checks import check_dtypes, check_feature, check_odd, check_pair, check_positive
from fade_mm.ops.sampling import fit_size, pixel_shuffle
from fade_mm.registry import MODELS

_KERNEL_SIZE = 6  # of the convolutions whose weights are pooled from the feature itself


class _GroupNorm(nn.GroupNorm):
    """Without PyTorch's refusal of groups of one value, as a small map has: it becomes the bias."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def _pooled(size: int, in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.Conv2d(in_channels, out_channels, 1))


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
    """

    def __init__(
        self, channels: int, up_kernel_size: int, num_groups: int, downsampling: bool
    ) -> None:
        super().__init__()
        self.bnu = nn.Sequential(_GroupNorm(num_groups, channels), nn.LeakyReLU())
        self.bnv = nn.Sequential(_GroupNorm(num_groups, channels), nn.LeakyReLU())
        taps = (2 * up_kernel_size) ** 2
        self.bconv_UP = _pooled(1, channels, taps)
        if downsampling:
            self.bconv_DP = _pooled(1, channels, taps)
        self.bconv_U = _pooled(_KERNEL_SIZE, channels, 1)
        self.bconv_V = _pooled(_KERNEL_SIZE, channels, 1)

    def forward(self, en: Tensor) -> Tensor:
        """Logits ``(N, K*K, h, w)`` from ``en`` ``(N, C, h, w)``."""
        n, c = en.shape[:2]
        # Each image has a 6x6 convolution of its own, with stride 2. That is a 3x3 one of each of
        # the four sub-pixels, added up, and one kernel for all points of a reassembly.
        subpixels = _subpixels(en)

        def view(weights: Tensor, norm: nn.Module) -> Tensor:
            kernels = _subpixels(weights).flatten(1)[..., None, None]
            kernels = kernels.expand(-1, -1, *subpixels.shape[2:])
            return norm(reassemble(subpixels, kernels, 1).unflatten(0, (n, 4)).sum(1))

        u, v = view(self.bconv_U(en), self.bnu), view(self.bconv_V(en), self.bnv)
        affinity = torch.linalg.vecdot(u, v, dim=1) / sqrt(c)
        logits = self.bconv_UP(en).flatten(2) @ affinity.flatten(1).unsqueeze(1)
        logits = pixel_shuffle(logits.unflatten(2, affinity.shape[1:]), 2)
        return fit_size(logits, en.shape[2:]).sigmoid()


@MMENGINE_MODELS.register_module('a2u')
@MODELS.register_module('a2u')
class A2U(nn.Module):
    """A2U upsampling, ``up(en, de)``; the kernels come from the encoder feature alone.

    ``en`` is padded with zeros to an even size where it is odd, and the kernels are cropped.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions; the kernels are made for 2. Default: 2.
        up_kernel_size: Upsampling kernel size K, odd. Default: 3.
        num_groups: Groups of the group norms; divides ``in_channels_en``. Default: 32.
        downsampling: Keep the authors' branch for down-sampling, which gets no gradient: it is in
            the published +0.12M and in weights of theirs. Data-parallel training needs False or
            ``find_unused_parameters=True``. Default: True.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    guided = True

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        up_kernel_size: int = 3,
        num_groups: int = 32,
        downsampling: bool = True,
    ) -> None:
        super().__init__()
        in_channels_de = in_channels_en if in_channels_de is None else in_channels_de
        check_positive(
            in_channels_en=in_channels_en, in_channels_de=in_channels_de, num_groups=num_groups
        )
        check_odd(up_kernel_size=up_kernel_size)
        if scale_factor != 2:
            raise ValueError(f'A2U upsamples by 2, got scale_factor={scale_factor!r}')
        if in_channels_en % num_groups:
            raise ValueError(
                f'num_groups must divide in_channels_en, got {num_groups} and {in_channels_en}'
            )
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        self.kernel_gen = AffinityKernelGenerator(
            in_channels_en, up_kernel_size, num_groups, downsampling
        )

    def init_weights(self) -> None:
        """PyTorch's own initialisation, as in the authors' code."""
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
        return gated_reassemble(de, self.kernel_gen(en))
