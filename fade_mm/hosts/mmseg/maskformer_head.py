"""MaskFormer's head with our pixel decoder."""

from collections.abc import Sequence

from mmcv.cnn import Conv2d
from mmseg.models.decode_heads import MaskFormerHead as MMSegMaskFormerHead

from fade_mm.hosts.mmdet.pixel_decoder import PixelDecoder
from fade_mm.registry import MODELS


@MODELS.register_module()
class MaskFormerHead(MMSegMaskFormerHead):
    """mmsegmentation's MaskFormer head, which knows `fade_mm.PixelDecoder` too.

    The host projects what a `PixelDecoder` hands to the transformer, but no subclass's.

    Args:
        in_channels: Channels of the backbone features, from fine to coarse.
        enforce_decoder_input_project: Project also where the channels are right. Default:
            ``False``.
        **kwargs: Arguments of mmsegmentation's ``MaskFormerHead``.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        enforce_decoder_input_project: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            enforce_decoder_input_project=enforce_decoder_input_project,
            **kwargs,
        )
        differ = in_channels[-1] != self.decoder_embed_dims
        if isinstance(self.pixel_decoder, PixelDecoder) and (
            differ or enforce_decoder_input_project
        ):
            self.decoder_input_proj = Conv2d(in_channels[-1], self.decoder_embed_dims, 1)
