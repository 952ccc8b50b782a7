"""Mask2Former's pixel decoder with upsamplers by config."""

from collections.abc import Sequence

import torch
from mmdet.models.layers import MSDeformAttnPixelDecoder as MMDetMSDeformAttnPixelDecoder
from torch import Tensor

from fade_mm.registry import MODELS

from .upsampler_pixel_decoder import UpsamplerPixelDecoder


@MODELS.register_module()
class MSDeformAttnPixelDecoder(UpsamplerPixelDecoder, MMDetMSDeformAttnPixelDecoder):
    """mmdetection's pixel decoder with deformable attention; see `UpsamplerPixelDecoder`."""

    stock_upsampler = 'Bilinear'

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode backbone features.

        Args:
            feats: Features ``(N, in_channels[i], h_i, w_i)``, from fine to coarse.

        Returns:
            The mask feature ``(N, out_channels, h_0, w_0)``, and ``num_outs`` features
            ``(N, feat_channels, h_i, w_i)``, from coarse to fine.
        """
        if self.upsamplers is None:
            return super().forward(feats)
        *coarse, finest = self._encode(feats)
        levels = [*coarse, *self._climb(feats, finest)]
        return self.mask_feature(levels[-1]), levels[: self.num_outs]

    def _encode(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """The levels that the encoder sees, after it, from coarse to fine."""
        indices = range(self.num_input_levels)[::-1][: self.num_encoder_levels]
        inputs = [conv(feats[i]) for i, conv in zip(indices, self.input_convs, strict=True)]
        batch, device = len(inputs[0]), inputs[0].device
        shapes = torch.tensor([x.shape[2:] for x in inputs], device=device)
        sizes = shapes.prod(1)
        padding = [x.new_zeros((batch, *x.shape[2:]), dtype=torch.bool) for x in inputs]
        positions = [
            self.postional_encoding(mask) + embedding[:, None, None]  # the host's spelling
            for mask, embedding in zip(padding, self.level_encoding.weight, strict=True)
        ]
        points = [
            self.point_generator.single_level_grid_priors(x.shape[2:], i, device=device)
            / (shape.flip(0) * self.strides[i])
            for i, x, shape in zip(indices, inputs, shapes, strict=True)
        ]
        levels = self.num_encoder_levels
        memory = self.encoder(
            query=_tokens(inputs),
            query_pos=_tokens(positions),
            key_padding_mask=torch.cat([mask.flatten(1) for mask in padding], dim=1),
            spatial_shapes=shapes,
            reference_points=torch.cat(points)[None, :, None].repeat(batch, 1, levels, 1),
            level_start_index=sizes.cumsum(0) - sizes,
            valid_ratios=inputs[0].new_ones((batch, levels, 2)),
        )
        parts = memory.transpose(1, 2).split([x.shape[2] * x.shape[3] for x in inputs], dim=2)
        return [part.unflatten(2, x.shape[2:]) for part, x in zip(parts, inputs, strict=True)]


def _tokens(maps: Sequence[Tensor]) -> Tensor:
    """Maps ``(N, C, h_i, w_i)`` as one sequence ``(N, sum of h_i * w_i, C)``."""
    return torch.cat([x.flatten(2) for x in maps], dim=2).transpose(1, 2)
