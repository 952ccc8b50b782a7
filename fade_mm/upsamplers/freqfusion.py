"""FreqFusion: Frequency-aware Feature Fusion for Dense Image Prediction (arXiv 2408.12879, TPAMI
2024).

Arguments and parameter names are those of Linwei-Chen/FreqFusion, whose copies for the host
libraries differ: the defaults are those of its detectors' configs, `freqfusion_segnext` is the copy
for SegNeXt. Two things are as they run there, not as they read: reassembly pads with zeros (the
authors' fallback without mmcv reflects, and shares no weights), and the initialisation of the whole
layer comes last, so that offsets do not start at DySample's small values.

Theirs takes exact ratios only. What holds at other sizes is ours: filters read as all reassembly
does here; the sampler computes what it would with its guide padded with zeros to the ratio times
the decoder's size, and the result cropped; where rounding down leaves a row or a column over, it
takes the decoder's offsets of the last one, and at equal sizes those of the first sub-pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops import gated_reassemble
from fade_mm.ops.checks import check_positive
from fade_mm.ops.fx import leaf
from fade_mm.ops.geometry import pixel_shuffle, step_of

from .base import Upsampler, View, kernels_view, start
from .dysample import bilinear, centres, own_places
from .kernel_generators import strided
from .pointwise import pointwise
from .registry import register_upsampler

_LOWPASS, _HIGHPASS = 5, 3  # kernel sizes of the two filters
_DIRECTIONS = ('sim_concat', 'sim')


def windowed(logits: Tensor, window: Tensor) -> Tensor:
    """Logits of which the softmax is that of ``logits``, times a window, over its sum.

    Args:
        logits: ``(N, K*K, h, w)``.
        window: ``(1, 1, K, K)``, or a single value where there is none.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype) + window.to(dtype).log().reshape(1, -1, 1, 1)


@leaf
def smoothed(x: Tensor, logits: Tensor, window: Tensor, scale_factor: int) -> Tensor:
    """``x`` filtered at the resolution of logits, with their windowed softmax; see `windowed`."""
    return gated_reassemble(x, windowed(logits, window), scale_factor=scale_factor)


@leaf
def similarities(x: Tensor) -> Tensor:
    """Cosines ``(N, 8, h, w)`` of each point with the eight that are two steps away.

    Args:
        x: Feature ``(N, C, h, w)``; outside of it the similarity is 0.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)  # half precision has no such eps
    unit = F.normalize(x.to(dtype), dim=1, eps=1e-8).to(x.dtype)
    padded = F.pad(unit, [2] * 4)
    windows = [(top, left) for top in (0, 2, 4) for left in (0, 2, 4) if (top, left) != (2, 2)]
    neighbours = (F.pad(padded, [-left, left - 4, -top, top - 4]) for top, left in windows)
    return torch.stack([torch.linalg.vecdot(unit, y, dim=1) for y in neighbours], dim=1)


@leaf
def moved(y: Tensor, offsets: Tensor, low: tuple[int, int], scale_factor: int) -> Tensor:
    """A feature, sampled where offsets lead from its points.

    Args:
        y: Feature ``(N, C, h, w)``.
        offsets: ``(N, 2 * groups, h, w)``, as `SimilaritySampler.offsets` gives them.
        low: Height and width of the feature in whose points the offsets are.
        scale_factor: Ratio of the two resolutions.
    """
    own = centres(y)
    offsets = step_of(y.shape[2:], low, scale_factor) * offsets.to(own.dtype)
    return bilinear(y, own + offsets.unflatten(1, (2, -1)))


class SimilaritySampler(nn.Module):
    """Moves the points of an upsampled feature to where similar ones are.

    Args:
        channels: Channels of both guides.
        groups: Groups of channels of the feature with offsets of their own.
        scale_factor: Ratio s of the two resolutions.
        norm: Whether guides are normalised first.
        direction_feat: What offsets are made of; see `FreqFusion`.
        factory: ``device`` and ``dtype`` of the weights.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        scale_factor: int,
        norm: bool,
        direction_feat: str,
        factory: dict,
    ) -> None:
        super().__init__()
        self.scale_factor = scale_factor
        self.direction_feat = direction_feat
        concat = direction_feat == 'sim_concat'
        of_offset, of_scale = (channels + 8, channels + 8) if concat else (8, channels)
        low, high = 2 * groups * scale_factor**2, 2 * groups
        self.offset = nn.Conv2d(of_offset, low, 3, padding=1, **factory)
        self.direct_scale = nn.Conv2d(of_scale, low, 3, padding=1, **factory)
        self.hr_offset = nn.Conv2d(of_offset, high, 3, padding=1, **factory)
        self.hr_direct_scale = nn.Conv2d(of_scale, high, 3, padding=1, **factory)
        self.norm_hr, self.norm_lr = (
            nn.GroupNorm(_norm_groups(channels), channels, **factory) if norm else nn.Identity()
            for _ in range(2)
        )
        # Theirs to keep: here a point's own place is its index.
        self.register_buffer('init_pos', torch.empty(1, low, 1, 1, **factory))

    def offsets(self, high: Tensor, low: Tensor) -> Tensor:
        """Learned offsets ``(N, 2 * groups, h, w)``, in points of ``low``; those in x first.

        Args:
            high, low: Guides ``(N, channels, h, w)`` and ``(N, channels, H, W)``.
        """
        size, s = (high.shape[2:], low.shape[2:]), self.scale_factor
        fine = self._projected(self.norm_hr(high), self.hr_offset, self.hr_direct_scale)
        coarse = self._projected(self.norm_lr(low), self.offset, self.direct_scale)
        offset, scale = (
            x + strided(pixel_shuffle(y, s), *size, s) for x, y in zip(fine, coarse, strict=True)
        )
        return offset * scale.sigmoid()

    def forward(self, high: Tensor, low: Tensor, y: Tensor) -> Tensor:
        """``y`` ``(N, C, h, w)``, resampled."""
        return moved(y, self.offsets(high, low), low.shape[2:], self.scale_factor)

    def _projected(self, x: Tensor, offset: nn.Module, scale: nn.Module) -> tuple[Tensor, Tensor]:
        similar = similarities(x)
        if self.direction_feat == 'sim':
            return offset(similar), scale(x)
        both = torch.cat([x, similar], dim=1)
        return offset(both), scale(both)


@register_upsampler('freqfusion')
class FreqFusion(Upsampler):
    """FreqFusion, ``up(en, de)``, or ``up.pair(en, de)``: smooths the decoder feature while
    upsampling it, moves its points, and sharpens the encoder feature that it will be merged with.

    Called alone, it returns the upsampled decoder feature, for which the encoder feature is a
    guide; `pair` returns the sharpened encoder feature, too, and the host adds or concatenates.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions. Default: 2.
        compressed_channels: Channels that both features are compressed to. Default: those of both,
            added, over ``compression``, but at least 8.
        compression: See ``compressed_channels``; SegNeXt's copy has 4. Default: 8.
        hamming_window: Weigh the filters with Hamming windows; SegNeXt's and Mask2Former's copies
            do not. Default: True.
        feature_resample: Move the points of the upsampled feature. Default: True.
        feature_resample_group: Groups of channels that move by themselves; divides
            ``in_channels_de``. Default: 4.
        feature_resample_norm: Normalise what offsets are made of; the configs for Panoptic FPN and
            Mask2Former do not. Default: True.
        direction_feat: ``'sim_concat'``: offsets and their scale are made of the compressed feature
            and similarities, both; ``'sim'`` (SegNeXt's copy): offsets of the similarities, their
            scale of the feature. Default: ``'sim_concat'``.
        device, dtype: Where and what the weights are. Default: PyTorch's.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: arXiv 2408.12879, and the released code.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import FreqFusion
        >>> up = FreqFusion(32)
        >>> en, y = up.pair(torch.rand(1, 32, 7, 9), torch.rand(1, 32, 4, 5))
        >>> en.shape, y.shape
        (torch.Size([1, 32, 7, 9]), torch.Size([1, 32, 7, 9]))
    """

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        compressed_channels: int | None = None,
        compression: int = 8,
        hamming_window: bool = True,
        feature_resample: bool = True,
        feature_resample_group: int = 4,
        feature_resample_norm: bool = True,
        direction_feat: str = 'sim_concat',
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        in_channels_de = in_channels_en if in_channels_de is None else in_channels_de
        check_positive(
            in_channels_en=in_channels_en,
            in_channels_de=in_channels_de,
            scale_factor=scale_factor,
            compression=compression,
            feature_resample_group=feature_resample_group,
        )
        if compressed_channels is None:
            compressed_channels = max(8, (in_channels_en + in_channels_de) // compression)
        check_positive(compressed_channels=compressed_channels)
        if direction_feat not in _DIRECTIONS:
            raise ValueError(
                f'direction_feat must be one of {", ".join(_DIRECTIONS)}, got {direction_feat!r}'
            )
        if feature_resample and in_channels_de % feature_resample_group:
            raise ValueError(
                'feature_resample_group must divide in_channels_de, got '
                f'{feature_resample_group} and {in_channels_de}'
            )
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        self.scale_factor = scale_factor
        self.compressed_channels = compressed_channels
        self.hamming_window = hamming_window
        self.feature_resample = feature_resample
        self.feature_resample_group = feature_resample_group
        self.feature_resample_norm = feature_resample_norm
        self.direction_feat = direction_feat
        factory = dict(device=device, dtype=dtype)
        self.hr_channel_compressor = nn.Conv2d(in_channels_en, compressed_channels, 1, **factory)
        self.lr_channel_compressor = nn.Conv2d(in_channels_de, compressed_channels, 1, **factory)
        encode = dict(kernel_size=3, padding=1, **factory)
        self.content_encoder = nn.Conv2d(compressed_channels, _LOWPASS**2, **encode)
        self.content_encoder2 = nn.Conv2d(compressed_channels, _HIGHPASS**2, **encode)
        for name, size in (('hamming_lowpass', _LOWPASS), ('hamming_highpass', _HIGHPASS)):
            shape = (1, 1, size, size) if hamming_window else (1,)
            self.register_buffer(name, torch.empty(shape, **factory))
        self.dysampler = None
        if feature_resample:
            self.dysampler = SimilaritySampler(
                compressed_channels,
                feature_resample_group,
                scale_factor,
                feature_resample_norm,
                direction_feat,
                factory,
            )
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform convolutions, small-normal filters (std 0.001), zero biases; the windows
        and the sub-pixels' own places."""
        start(self, nn.init.xavier_uniform_)
        for encoder in (self.content_encoder, self.content_encoder2):
            start(encoder, lambda weight: nn.init.normal_(weight, std=0.001))
        for module in self.modules():
            if isinstance(module, nn.GroupNorm):
                module.reset_parameters()
        with torch.no_grad():
            for window in (self.hamming_lowpass, self.hamming_highpass):
                window.copy_(_hamming(window.shape[-1]).reshape(window.shape))
            if self.dysampler is not None:
                places = own_places(self.feature_resample_group, self.scale_factor)
                self.dysampler.init_pos.copy_(places)

    def forward(self, en: Tensor, de: Tensor, both: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Upsample ``de`` to the size of ``en``.

        Args:
            en, de: As in `Upsampler.forward`.
            both: Return what `pair` does. Default: False.

        Returns:
            The upsampled feature ``(N, in_channels_de, h, w)`` in the dtype of ``de``.

        Raises:
            TypeError, ValueError: the tensors do not fit the layer or each other.
        """
        self._check(en=en, de=de)
        high, low, details = self._embedded(en, de)
        logits = self._logits(high, low)
        y = smoothed(de, logits, self.hamming_lowpass, self.scale_factor)
        if self.dysampler is not None:
            y = self.dysampler(high, low, y)
        if both is not True:  # torch.fx has no value for it
            return y
        details_de = self.content_encoder2(low)
        details_de = smoothed(details_de, logits, self.hamming_lowpass, self.scale_factor)
        return self._sharpened(en, details + details_de), y

    def pair(self, en: Tensor, de: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder feature with its high frequencies twice, and the upsampled decoder feature.

        Args:
            en, de: As in `Upsampler.forward`.

        Returns:
            Features ``(N, in_channels_en, h, w)`` and ``(N, in_channels_de, h, w)``.
        """
        return self(en, de, both=True)

    def views(self, en: Tensor, de: Tensor) -> list[View]:
        """The low-pass kernels ``(N, 25, h, w)``, and the offsets ``(N, 2 * groups, h, w)``."""
        high, low, _ = self._embedded(en, de)
        views = [kernels_view(windowed(self._logits(high, low), self.hamming_lowpass))]
        if self.dysampler is not None:
            meaning = (
                'how far from its own place an output point samples the upsampled feature, in '
                'points of de; x of all groups of channels, then y'
            )
            views.append(View('offsets', self.dysampler.offsets(high, low), meaning))
        return views

    def _embedded(self, en: Tensor, de: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both features compressed, ``en`` sharpened, and the high-pass logits that did it."""
        high = pointwise(self.hr_channel_compressor, en)
        details = self.content_encoder2(high)
        low = pointwise(self.lr_channel_compressor, de)
        return self._sharpened(high, details), low, details

    def _logits(self, high: Tensor, low: Tensor) -> Tensor:
        """The low-pass logits ``(N, 25, h, w)``, those of ``low`` smoothed by those of ``high``."""
        logits, logits_de = self.content_encoder(high), self.content_encoder(low)
        return logits + smoothed(logits_de, logits, self.hamming_lowpass, self.scale_factor)

    def _sharpened(self, x: Tensor, logits: Tensor) -> Tensor:
        """``x`` and once more what smoothing takes from it: twice ``x`` less the smooth one."""
        return torch.lerp(smoothed(x, logits, self.hamming_highpass, 1), x, 2)


def _norm_groups(channels: int) -> int:
    """The largest number of groups with eight channels or more each."""
    return next(n for n in range(max(1, channels // 8), 0, -1) if channels % n == 0)


def _hamming(size: int) -> Tensor:
    """The outer product of a Hamming window with itself, ``(size, size)``."""
    line = torch.hamming_window(size, periodic=False, dtype=torch.float64, device='cpu')
    return torch.outer(line, line)
