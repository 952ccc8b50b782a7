"""Where FADE's kernels come from: semi-shift convolution, and what the ablation puts in its place.

Every generator is called as ``generator(en, de)`` and returns logits ``(N, G * K*K, h, w)`` at
the resolution of ``en`` and logits ``(N, G * K*K, H, W)`` at that of ``de``, to be added, or None;
G is ``up_group``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops.fx import leaf
from fade_mm.ops.geometry import fit_size, is_recorded, nearest_up, pixel_shuffle, step_of

from .base import start
from .by_group import each_group
from .carafe import CARAFE
from .pointwise import is_plain, pointwise

Logits = tuple[Tensor, Tensor | None]


class SemiShiftKernelGenerator(nn.Module):
    """Semi-shift convolution: kernel logits from both features (arXiv 2207.10392, section 4.1).

    One 3x3 convolution serves both resolutions, so its bias counts twice, as in the authors' code.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature.
        up_kernel_size: Upsampling kernel size K.
        embedding_dim: Channels d that both features are compressed to.
        depthwise: Compress to as many channels as there are logits instead, and convolve each by
            itself (FADE-Lite).
        scale_factor: Ratio of the two resolutions.
        up_group: Groups of channels with kernels of their own: that many times K*K logits.
        device, dtype: Where and what the weights are. Default: PyTorch's.
    """

    uses_de = True

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int,
        up_kernel_size: int,
        embedding_dim: int,
        depthwise: bool,
        scale_factor: int,
        up_group: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = dict(device=device, dtype=dtype)
        taps = up_group * up_kernel_size**2
        groups = taps if depthwise else 1
        if depthwise:
            embedding_dim = taps
        self.scale_factor = scale_factor
        self.up_group = up_group
        self.depthwise = depthwise
        self.compressor_en = nn.Conv2d(in_channels_en, embedding_dim, 1, **factory)
        if self.uses_de:
            self.compressor_de = nn.Conv2d(in_channels_de, embedding_dim, 1, bias=False, **factory)
        self.content_encoder = nn.Conv2d(
            embedding_dim, taps, 3, padding=1, groups=groups, **factory
        )

    def init_weights(self) -> None:
        """Xavier-uniform weights and zero biases, as the authors' L2H code starts; what a group of
        channels has for itself starts as that of a layer of its own."""
        by_group = each_group(nn.init.xavier_uniform_, self.up_group)
        for name, part in self.named_children():
            has_groups = self.depthwise or name == 'content_encoder'
            start(part, by_group if has_groups else nn.init.xavier_uniform_)

    def forward(self, en: Tensor, de: Tensor) -> Logits:
        """Low to high: convolve each feature at its own resolution."""
        return (
            self.content_encoder(pointwise(self.compressor_en, en)),
            self.content_encoder(pointwise(self.compressor_de, de)),
        )


class HighToLowKernelGenerator(SemiShiftKernelGenerator):
    """The same semi-shift convolution, computed high to low: one strided convolution of the
    encoder feature for every sub-pixel position, each added to that of the decoder feature.

    Where that is not to be had, it is computed low to high, which is the same: of a convolution
    that is wrapped or hooked, which can only be called, and in a graph for all sizes.

    Source: arXiv 2207.10392, section 4.2. Low to high needs less memory (poppinace/fade#2).
    """

    def forward(self, en: Tensor, de: Tensor) -> Logits:
        """High to low: convolve the encoder feature once for each sub-pixel position."""
        conv = self.content_encoder
        if is_recorded(en) or not is_plain(conv) or conv.kernel_size != (3, 3):
            return super().forward(en, de)
        size, low = en.shape[2:], de.shape[2:]
        step = step_of(size, low, self.scale_factor)
        grid = [(a + step - 1) // step for a in size]  # ONNX rounds negative quotients up
        embedded = pointwise(self.compressor_en, en)
        logits_de = fit_size(self.content_encoder(pointwise(self.compressor_de, de)), grid)
        phases = []
        for top in range(step):
            for left in range(step):
                # What the windows of this position span, from 1 point before it.
                pads = [
                    (1 - start, step * (a - 1) + start + 2 - b)
                    for start, a, b in zip((left, top), grid[::-1], size[::-1], strict=True)
                ]
                padded = F.pad(embedded, [*pads[0], *pads[1]])
                high = F.conv2d(padded, conv.weight, conv.bias, step, groups=conv.groups)
                phases.append(high + logits_de)
        logits = pixel_shuffle(torch.stack(phases, dim=2).flatten(1, 2), step)
        return fit_size(logits, size), None


class NaiveKernelGenerator(SemiShiftKernelGenerator):
    """Both features at high resolution, concatenated, compressed, convolved.

    The compression of a concatenation is a sum of two, and that of the decoder feature is the same
    before nearest-neighbour upsampling as after it, so the parameters are those of semi-shift
    convolution, and nothing is concatenated.

    Source: arXiv 2207.10392, section 4.1, which leaves the interpolation open.
    """

    def forward(self, en: Tensor, de: Tensor) -> Logits:
        """Convolve both features at high resolution."""
        embedded_de = pointwise(self.compressor_de, de)
        embedded_de = nearest_up(embedded_de, en.shape[2:], self.scale_factor)
        return self.content_encoder(pointwise(self.compressor_en, en) + embedded_de), None


class EncoderKernelGenerator(SemiShiftKernelGenerator):
    """The encoder's part of semi-shift convolution alone."""

    uses_de = False

    def forward(self, en: Tensor, de: Tensor) -> Logits:
        """Convolve the encoder feature."""
        return self.content_encoder(pointwise(self.compressor_en, en)), None


class DecoderKernelGenerator(CARAFE):
    """CARAFE's kernel prediction, with its names and its initialisation.

    Args:
        As in `SemiShiftKernelGenerator`.
    """

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int,
        up_kernel_size: int,
        embedding_dim: int,
        depthwise: bool,
        scale_factor: int,
        up_group: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels_de,
            scale_factor,
            up_kernel_size,
            up_group,
            compressed_channels=embedding_dim,
            device=device,
            dtype=dtype,
        )

    def forward(self, en: Tensor, de: Tensor) -> Logits:
        """CARAFE's logits, at the size of ``en``."""
        return strided(self.logits(de), en.shape[2:], de.shape[2:], self.scale_factor), None


@leaf
def strided(logits: Tensor, size: tuple, low: tuple, scale_factor: int) -> Tensor:
    """Logits for the scale factor at a size: where that is the low one, the first of each cell."""
    stride = scale_factor // step_of(size, low, scale_factor)
    rows, cols = (
        (torch.arange(a, device=logits.device) * stride).clamp(max=b - 1)
        for a, b in zip(size, logits.shape[2:], strict=True)
    )
    return logits.index_select(2, rows).index_select(3, cols)


KERNEL_GENERATORS = {
    ('both', 'semi-shift'): SemiShiftKernelGenerator,
    ('both', 'semi-shift-h2l'): HighToLowKernelGenerator,
    ('both', 'naive'): NaiveKernelGenerator,
    ('encoder', 'semi-shift'): EncoderKernelGenerator,
    ('decoder', 'semi-shift'): DecoderKernelGenerator,
}
