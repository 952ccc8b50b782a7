"""MaskFormer's pixel decoders with upsamplers by config."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.layers import PixelDecoder as MMDetPixelDecoder
from mmdet.models.layers import (
    TransformerEncoderPixelDecoder as MMDetTransformerEncoderPixelDecoder,
)
from torch import Tensor

from fade_mm.registry import MODELS

from .upsampler_pixel_decoder import UpsamplerPixelDecoder


@MODELS.register_module()
class PixelDecoder(UpsamplerPixelDecoder, MMDetPixelDecoder):
    """mmdetection's FPN-like pixel decoder; see `UpsamplerPixelDecoder`.

    It goes with `fade_mm.MaskFormerHead`: the host's head knows its own class alone.
    """

    def forward(
        self, feats: Sequence[Tensor], batch_img_metas: list[dict]
    ) -> tuple[Tensor, Tensor]:
        """Decode backbone features.

        Args:
            feats: Features ``(N, in_channels[i], h_i, w_i)``, from fine to coarse.
            batch_img_metas: Not used.

        Returns:
            The mask feature ``(N, out_channels, h_0, w_0)``, and the coarsest of ``feats``.
        """
        if self.upsamplers is None:
            return super().forward(feats, batch_img_metas)
        levels = self._climb(feats, self.last_feat_conv(feats[-1]))
        return self.mask_feature(levels[-1]), feats[-1]


@MODELS.register_module()
class TransformerEncoderPixelDecoder(UpsamplerPixelDecoder, MMDetTransformerEncoderPixelDecoder):
    """mmdetection's pixel decoder with a transformer encoder; see `UpsamplerPixelDecoder`."""

    def forward(
        self, feats: Sequence[Tensor], batch_img_metas: list[dict]
    ) -> tuple[Tensor, Tensor]:
        """Decode backbone features.

        Args:
            feats: Features ``(N, in_channels[i], h_i, w_i)``, from fine to coarse.
            batch_img_metas: A dict an image, with ``batch_input_shape`` and ``img_shape``.

        Returns:
            The mask feature ``(N, out_channels, h_0, w_0)``, and the coarsest level after the
            encoder ``(N, feat_channels, h_n, w_n)``.
        """
        if self.upsamplers is None:
            return super().forward(feats, batch_img_metas)
        memory = self._encode(feats[-1], batch_img_metas)
        levels = self._climb(feats, self.encoder_out_proj(memory))
        return self.mask_feature(levels[-1]), memory

    def _encode(self, feat: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """The coarsest level after the encoder, which does not look at padding."""
        size = batch_img_metas[0]['batch_input_shape']
        padding = feat.new_ones((len(feat), 1, *size), dtype=torch.float32)
        for image, meta in zip(padding, batch_img_metas, strict=True):
            h, w = meta['img_shape']
            image[:, :h, :w] = 0
        padding = F.interpolate(padding, feat.shape[2:]).squeeze(1).bool()
        memory = self.encoder(
            query=self.encoder_in_proj(feat).flatten(2).transpose(1, 2),
            query_pos=self.positional_encoding(padding).flatten(2).transpose(1, 2),
            key_padding_mask=padding.flatten(1),
        )
        return memory.transpose(1, 2).unflatten(2, feat.shape[2:])
