"""Where FADE's kernels come from: semi-shift convolution, and what the ablation puts in its place.

Every generator is called as ``generator(en, de)`` and returns logits ``(N, K*K, h, w)`` at the
resolution of ``en`` and logits ``(N, K*K, H, W)`` at that of ``de``, to be added, or None.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops.sampling import fit_size, nearest_up, pixel_shuffle, step_of

from .carafe import CARAFE
from .pointwise import pointwise

Logits = tuple[Tensor, Tensor | None]


class SemiShiftKernelGenerator(nn.Module):
    """Semi-shift convolution: kernel logits from both features (arXiv 2207.10392, section 4.1).

    One 3x3 convolution serves both resolutions, so its bias counts twice, as in the authors' code.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature.
        up_kernel_size: Upsampling kernel size K.
        embedding_dim: Channels d that both features are compressed to.
        depthwise: Compress to K*K channels instead and convolve each by itself (FADE-Lite).
        scale_factor: Ratio of the two resolutions.
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
    ) -> None:
        super().__init__()
        taps = up_kernel_size**2
        groups = taps if depthwise else 1
        if depthwise:
            embedding_dim = taps
        self.scale_factor = scale_factor
        self.compressor_en = nn.Conv2d(in_channels_en, embedding_dim, 1)
        if self.uses_de:
            self.compressor_de = nn.Conv2d(in_channels_de, embedding_dim, 1, bias=False)
        self.content_encoder = nn.Conv2d(embedding_dim, taps, 3, padding=1, groups=groups)

    def init_weights(self) -> None:
        """Xavier-uniform weights and zero biases, as the authors' L2H code starts."""
        for conv in self.children():
            nn.init.xavier_uniform_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, en: Tensor, de: Tensor) -> Logits:
        """Low to high: convolve each feature at its own resolution."""
        return (
            self.content_encoder(pointwise(self.compressor_en, en)),
            self.content_encoder(pointwise(self.compressor_de, de)),
        )


class HighToLowKernelGenerator(SemiShiftKernelGenerator):
    """The same semi-shift convolution, computed high to low: one strided convolution of the
    encoder feature for every sub-pixel position, each added to that of the decoder feature.

    Source: arXiv 2207.10392, section 4.2. Low to high needs less memory (poppinace/fade#2).
    """

    def forward(self, en: Tensor, de: Tensor) -> Logits:
        size, low = en.shape[2:], de.shape[2:]
        step = step_of(size, low, self.scale_factor)
        grid = [-(-a // step) for a in size]
        embedded = pointwise(self.compressor_en, en)
        logits_de = fit_size(self.content_encoder(pointwise(self.compressor_de, de)), grid)
        conv = self.content_encoder
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
        embedded_de = pointwise(self.compressor_de, de)
        embedded_de = nearest_up(embedded_de, en.shape[2:], self.scale_factor)
        return self.content_encoder(pointwise(self.compressor_en, en) + embedded_de), None


class EncoderKernelGenerator(SemiShiftKernelGenerator):
    """The encoder's part of semi-shift convolution alone."""

    uses_de = False

    def forward(self, en: Tensor, de: Tensor) -> Logits:
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
    ) -> None:
        super().__init__(
            in_channels_de, scale_factor, up_kernel_size, compressed_channels=embedding_dim
        )

    def forward(self, en: Tensor, de: Tensor) -> Logits:
        logits = self.logits(de)
        size = en.shape[2:]
        stride = self.scale_factor // step_of(size, de.shape[2:], self.scale_factor)
        rows, cols = (
            (torch.arange(a, device=en.device) * stride).clamp(max=b - 1)
            for a, b in zip(size, logits.shape[2:], strict=True)
        )
        return logits.index_select(2, rows).index_select(3, cols), None


KERNEL_GENERATORS = {
    ('both', 'semi-shift'): SemiShiftKernelGenerator,
    ('both', 'semi-shift-h2l'): HighToLowKernelGenerator,
    ('both', 'naive'): NaiveKernelGenerator,
    ('encoder', 'semi-shift'): EncoderKernelGenerator,
    ('decoder', 'semi-shift'): DecoderKernelGenerator,
}
