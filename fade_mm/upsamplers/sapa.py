"""SAPA: Similarity-Aware Point Affiliation (arXiv 2209.12866, NeurIPS 2022).

The layers and names are those of ``SAPAExp`` in poppinace/sapa, "used to conduct experiments": the
similarity is not scaled, points outside of the decoder feature keep similarity 0 in the softmax,
and the gate of SAPA-G blends the embedding of the decoder feature before its norm. Their published
numbers use 32 embedding dimensions, as in their logs, not the 64 that their class defaults to.
SAPA-G has 25,953 parameters at 256 channels, so six have 0.156M where +0.1 is published.
"""

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from fade_mm.ops import gated_reassemble
from fade_mm.ops.checks import check_dtypes, check_feature, check_odd, check_pair, check_positive
from fade_mm.ops.sampling import fit_size, nearest_up, pixel_shuffle, step_of
from fade_mm.registry import MODELS

_SIMILARITIES = ('inner', 'bilinear', 'gated')


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
    taps = torch.arange(kernel_size, device=key.device)
    grid = [-(-a // step) for a in size]
    rows, cols = (
        torch.arange(a, device=key.device).clamp(max=b - 1)[:, None] + taps
        for a, b in zip(grid, low, strict=True)
    )
    windows = F.pad(key, [0, 0, *[kernel_size // 2] * 4])[:, rows][:, :, :, cols]
    windows = windows.transpose(2, 3).flatten(3, 4)  # (N, H, W, K*K, d)
    missing = [step * a - b for a, b in zip(grid, size, strict=True)]
    phases = F.pad(query, [0, 0, 0, missing[1], 0, missing[0]])
    phases = phases.unflatten(2, (grid[1], step)).unflatten(1, (grid[0], step))
    phases = phases.transpose(2, 3).flatten(3, 4)  # (N, H, W, step*step, d)
    scores = (phases @ windows.transpose(3, 4)).permute(0, 4, 3, 1, 2).flatten(1, 2)
    return fit_size(pixel_shuffle(scores, step), size)


@MMENGINE_MODELS.register_module('sapa')
@MODELS.register_module('sapa')
class SAPA(nn.Module):
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

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    guided = True

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        up_kernel_size: int = 5,
        embedding_dim: int = 32,
        similarity: str = 'bilinear',
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
        if similarity not in _SIMILARITIES:
            raise ValueError(
                f'similarity must be one of {", ".join(_SIMILARITIES)}, got {similarity!r}'
            )
        if similarity == 'inner' and in_channels_en != in_channels_de:
            raise ValueError(
                "similarity='inner' needs equal numbers of channels, got in_channels_en="
                f"{in_channels_en} and in_channels_de={in_channels_de}; use 'bilinear'"
            )
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        self.scale_factor = scale_factor
        self.up_kernel_size = up_kernel_size
        self.similarity = similarity
        self.norm_y = nn.LayerNorm(in_channels_en)
        self.norm_x = nn.LayerNorm(in_channels_de)
        if similarity == 'bilinear':
            self.q = nn.Linear(in_channels_en, embedding_dim)
        elif similarity == 'gated':
            self.qy = nn.Linear(in_channels_en, embedding_dim)
            self.qx = nn.Linear(in_channels_de, embedding_dim)
            self.gate = nn.Linear(in_channels_de, 1)
        if similarity != 'inner':
            self.k = nn.Linear(in_channels_de, embedding_dim)
        self.init_weights()

    def init_weights(self) -> None:
        """Truncated normal (std 0.02) linear layers with zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def forward(self, en: Tensor, de: Tensor) -> Tensor:
        """Upsample ``de`` ``(N, in_channels_de, H, W)`` to the size of ``en``.

        Raises:
            TypeError, ValueError: the tensors do not fit the layer or each other.
        """
        check_feature('en', en, self.in_channels_en)
        check_feature('de', de, self.in_channels_de)
        check_pair('en', en, de, self.scale_factor)
        check_dtypes(self, en=en, de=de)
        logits = similarity(
            *self._query_and_key(en.permute(0, 2, 3, 1), de.permute(0, 2, 3, 1)),
            self.up_kernel_size,
            self.scale_factor,
        )
        return gated_reassemble(de, logits, scale_factor=self.scale_factor)

    def _query_and_key(self, en: Tensor, de: Tensor) -> tuple[Tensor, Tensor]:
        """From and to channels last."""
        query, key = self.norm_y(en), self.norm_x(de)
        if self.similarity == 'inner':
            return query, key
        if self.similarity == 'bilinear':
            return self.q(query), self.k(key)
        gate = self._up(self.gate(key).sigmoid(), en)
        query = gate * self.qy(query) + (1 - gate) * self._up(self.qx(de), en)
        return query, self.k(key)

    def _up(self, x: Tensor, en: Tensor) -> Tensor:
        """Nearest-neighbour upsampling with channels last."""
        x = nearest_up(x.permute(0, 3, 1, 2), en.shape[1:3], self.scale_factor)
        return x.permute(0, 2, 3, 1)
