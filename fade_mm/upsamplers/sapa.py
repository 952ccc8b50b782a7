"""SAPA: Similarity-Aware Point Affiliation (arXiv 2209.12866, NeurIPS 2022).

The layers and names are those of ``SAPAExp`` in poppinace/sapa, "used to conduct experiments": the
similarity is not scaled, points outside of the decoder feature keep similarity 0 in the softmax,
and the gate of SAPA-G blends the embedding of the decoder feature before its norm. Their published
numbers use 32 embedding dimensions, as in their logs, not the 64 that their class defaults to.
SAPA-G has 25,953 parameters at 256 channels, so six have 0.156M where +0.1 is published.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fade_mm.ops.checks import check_odd, check_positive
from fade_mm.ops.fx import leaf
from fade_mm.ops.geometry import fit_size, nearest_up, pixel_shuffle, step_of

from .base import Upsampler, View, kernels_view, reset, start
from .by_group import check_groups, reassemble_by_group
from .registry import register_upsampler

_SIMILARITIES = ('inner', 'bilinear', 'gated')


@leaf
def similarity(query: Tensor, key: Tensor, kernel_size: int, scale_factor: int) -> Tensor:
    """Inner products of every point with the neighbourhood that it will be reassembled from.

    Args:
        query: High-resolution feature, channels last, ``(N, h, w, d)``.
        key: Low-resolution feature, channels last, ``(N, H, W, d)``.
        kernel_size: Size K of the neighbourhood, odd.
        scale_factor: Ratio of the two resolutions.

    Returns:
        Similarities ``(N, K*K, h, w)``, 0 for points outside of ``key``.
    """
    size, low = query.shape[1:3], key.shape[1:3]
    step = step_of(size, low, scale_factor)
    # Where the step is not known yet, there is room for the larger one.
    width = step if isinstance(step, int) else scale_factor

    def span(size: int) -> Tensor:
        return torch.arange(size, device=key.device)

    grid = [(a + step - 1) // step for a in size]  # ONNX rounds negative quotients up
    rows, cols = (
        span(a).clamp(max=b - 1)[:, None] + span(kernel_size)
        for a, b in zip(grid, low, strict=True)
    )
    windows = F.pad(key, [0, 0, *[kernel_size // 2] * 4])[:, rows][:, :, :, cols]
    windows = windows.transpose(2, 3).flatten(3, 4)  # (N, H, W, K*K, d)
    rows, cols = (
        (span(a)[:, None] * step + span(width)).clamp(max=b - 1)
        for a, b in zip(grid, size, strict=True)
    )
    phases = query[:, rows][:, :, :, cols]
    phases = phases.transpose(2, 3).flatten(3, 4)  # (N, H, W, width*width, d)
    scores = (phases @ windows.transpose(3, 4)).permute(0, 4, 3, 1, 2).flatten(1, 2)
    scores = pixel_shuffle(scores, width)
    if isinstance(step, int):
        return fit_size(scores, size)
    rows, cols = (span(a) + span(a) // step * (width - step) for a in size)
    return scores.index_select(2, rows).index_select(3, cols)


@register_upsampler('sapa')
class SAPA(Upsampler):
    """SAPA upsampling, ``up(en, de)``: kernels are the softmax of the similarity of an encoder
    point with decoder points.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions. Default: 2.
        up_kernel_size: Upsampling kernel size K, odd. Default: 5.
        embedding_dim: Channels d that both features are embedded in. Default: 32.
        similarity: ``'inner'`` (SAPA-I: the inner product of the normalised features, which needs
            equal numbers of channels), ``'bilinear'`` (SAPA-B: embeds them first) or ``'gated'``
            (SAPA-G: blends both features' embeddings into the query). Default: ``'bilinear'``.
        device, dtype: Where and what the weights are. Default: PyTorch's.
        up_group: Groups of channels with kernels of their own; divides ``in_channels_de``. More
            than one is ours, not the paper's, and has no published figures; each
            group embeds in d dimensions of its own, the gate stays one for all, and ``'inner'``,
            which embeds nothing, has none. Default: 1.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Source: arXiv 2209.12866, section 3.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import SAPA
        >>> SAPA(8, similarity='gated')(torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 7, 9])
    """

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        up_kernel_size: int = 5,
        embedding_dim: int = 32,
        similarity: str = 'bilinear',
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        up_group: int = 1,
    ) -> None:
        super().__init__()
        in_channels_de = in_channels_en if in_channels_de is None else in_channels_de
        check_positive(
            in_channels_en=in_channels_en,
            in_channels_de=in_channels_de,
            scale_factor=scale_factor,
            embedding_dim=embedding_dim,
        )
        check_odd(up_kernel_size=up_kernel_size)
        check_groups('in_channels_de', in_channels_de, up_group)
        if similarity not in _SIMILARITIES:
            raise ValueError(
                f'similarity must be one of {", ".join(_SIMILARITIES)}, got {similarity!r}'
            )
        if similarity == 'inner' and in_channels_en != in_channels_de:
            raise ValueError(
                "similarity='inner' needs equal numbers of channels, got in_channels_en="
                f"{in_channels_en} and in_channels_de={in_channels_de}; use 'bilinear'"
            )
        if similarity == 'inner' and up_group > 1:
            raise ValueError(
                "similarity='inner' has no embeddings in which groups could differ, so up_group "
                f"must be 1, got {up_group}; use 'bilinear' or 'gated'"
            )
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        self.scale_factor = scale_factor
        self.up_kernel_size = up_kernel_size
        self.embedding_dim = embedding_dim
        self.similarity = similarity
        factory = dict(device=device, dtype=dtype)
        self.up_group = up_group
        embedded = up_group * embedding_dim
        self.norm_y = nn.LayerNorm(in_channels_en, **factory)
        self.norm_x = nn.LayerNorm(in_channels_de, **factory)
        if similarity == 'bilinear':
            self.q = nn.Linear(in_channels_en, embedded, **factory)
        elif similarity == 'gated':
            self.qy = nn.Linear(in_channels_en, embedded, **factory)
            self.qx = nn.Linear(in_channels_de, embedded, **factory)
            self.gate = nn.Linear(in_channels_de, 1, **factory)
        if similarity != 'inner':
            self.k = nn.Linear(in_channels_de, embedded, **factory)
        self.init_weights()

    def init_weights(self) -> None:
        """Truncated normal (std 0.02) linear layers with zero biases; PyTorch's layer norms."""
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                reset(module)
        start(self, lambda weight: nn.init.trunc_normal_(weight, std=0.02))

    def logits(self, en: Tensor, de: Tensor) -> Tensor:
        """Similarities ``(N, up_group * K*K, h, w)``, before their softmax."""
        en, de = en.permute(0, 2, 3, 1), de.permute(0, 2, 3, 1)
        query, key = self.norm_y(en), self.norm_x(de)
        if self.similarity == 'bilinear':
            query, key = self.q(query), self.k(key)
        elif self.similarity == 'gated':
            gate = self._up(self.gate(key).sigmoid(), en)
            query = gate * self.qy(query) + (1 - gate) * self._up(self.qx(de), en)
            key = self.k(key)
        if self.up_group == 1:
            return similarity(query, key, self.up_kernel_size, self.scale_factor)
        query, key = (
            x.unflatten(3, (self.up_group, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)
            for x in (query, key)
        )
        scores = similarity(query, key, self.up_kernel_size, self.scale_factor)
        return scores.unflatten(0, (-1, self.up_group)).flatten(1, 2)

    def upsample(self, en: Tensor, de: Tensor) -> Tensor:
        """Reassemble ``de`` with the softmax of the similarities."""
        logits = self.logits(en, de)
        return reassemble_by_group(de, logits, self.up_group, scale_factor=self.scale_factor)

    def views(self, en: Tensor, de: Tensor) -> list[View]:
        """The kernels ``(N * up_group, K*K, h, w)``, and of SAPA-G the gate ``(N, 1, H, W)``."""
        views = [kernels_view(self.logits(en, de), self.up_group)]
        if self.similarity == 'gated':
            gate = self.gate(self.norm_x(de.permute(0, 2, 3, 1))).sigmoid().permute(0, 3, 1, 2)
            views.append(View('gate', gate, 'share of the encoder feature in the query'))
        return views

    def _up(self, x: Tensor, en: Tensor) -> Tensor:
        """Nearest-neighbour upsampling with channels last."""
        x = nearest_up(x.permute(0, 3, 1, 2), en.shape[1:3], self.scale_factor)
        return x.permute(0, 2, 3, 1)
