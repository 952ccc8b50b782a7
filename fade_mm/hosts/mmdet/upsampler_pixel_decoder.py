"""What mmdetection's pixel decoders have in common, with upsamplers by config."""

from collections.abc import Sequence

from torch import Tensor

from fade_mm.hosts.base import StandIn, start_upsamplers
from fade_mm.hosts.top_down import build_top_down


class UpsamplerPixelDecoder(StandIn):
    """Gives a pixel decoder upsamplers in its FPN step; put it before the host class.

    Args:
        upsample_cfg: Config of the upsamplers; see `build_upsampler` (FADE's gate is off unless
            asked for, since the decoder adds the lateral feature itself). Default: ``None``, the
            host's own interpolation.
        **kwargs: Arguments of the host class.
    """

    stock_upsampler = 'Nearest'

    def __init__(self, *, upsample_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.upsamplers = None
        if upsample_cfg is not None:
            channels = self.mask_feature.in_channels
            self.upsamplers = build_top_down(upsample_cfg, channels, len(self.lateral_convs) + 1)

    def init_weights(self) -> None:
        """Start the host's layers, which leaves out all others, and the upsamplers."""
        super().init_weights()
        start_upsamplers(self)

    def _climb(self, feats: Sequence[Tensor], y: Tensor) -> list[Tensor]:
        """``y`` and the levels above it, from coarse to fine: upsample, add, convolve."""
        levels = [y]
        for i in reversed(range(len(self.upsamplers))):
            lateral, y = self.upsamplers[i].pair(self.lateral_convs[i](feats[i]), levels[-1])
            levels.append(self.output_convs[i](lateral + y))
        return levels
