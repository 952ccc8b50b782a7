"""FADE: Fusing the Assets of Decoder and Encoder for task-agnostic upsampling.

Papers: arXiv 2207.10392 (ECCV 2022) and arXiv 2407.13500 (IJCV 2024). This is the low-to-high
formulation (L2H) with the parameter names of the authors' code; their high-to-low formulation is
equal to it, and its state dict loads too.
"""

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from fade_mm.ops import gated_reassemble
from fade_mm.ops.checks import check_dtypes, check_feature, check_odd, check_pair, check_positive
from fade_mm.registry import MODELS

_H2L_NAMES = {
    'kernel_generator.conv1_en.weight': 'ker_generator.compressor_en.weight',
    'kernel_generator.conv1_en.bias': 'ker_generator.compressor_en.bias',
    'kernel_generator.conv1_de.weight': 'ker_generator.compressor_de.weight',
    'kernel_generator.conv2_kernels': 'ker_generator.content_encoder.weight',
    'kernel_generator.conv2_bias': 'ker_generator.content_encoder.bias',
}


class SemiShiftKernelGenerator(nn.Module):
    """Semi-shift convolution: kernel logits from both features (arXiv 2207.10392, section 4.1).

    One 3x3 convolution serves both resolutions, so its bias counts twice, as in the authors' code.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature.
        up_kernel_size: Upsampling kernel size K.
        embedding_dim: Channels d that both features are compressed to.
        depthwise: Compress to K*K channels instead and convolve each by itself (FADE-Lite).
    """

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int,
        up_kernel_size: int,
        embedding_dim: int,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        taps = up_kernel_size**2
        groups = taps if depthwise else 1
        if depthwise:
            embedding_dim = taps
        self.compressor_en = nn.Conv2d(in_channels_en, embedding_dim, 1)
        self.compressor_de = nn.Conv2d(in_channels_de, embedding_dim, 1, bias=False)
        self.content_encoder = nn.Conv2d(embedding_dim, taps, 3, padding=1, groups=groups)

    def forward(self, en: Tensor, de: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(N, K*K, h, w)`` from ``en`` and ``(N, K*K, H, W)`` from ``de``, to be added."""
        return (
            self.content_encoder(self.compressor_en(en)),
            self.content_encoder(self.compressor_de(de)),
        )


class GateGenerator(nn.Module):
    """The decoder-dependent gate before its sigmoid (arXiv 2207.10392, section 4.3).

    Args:
        in_channels_de: Channels of the decoder feature.
    """

    def __init__(self, in_channels_de: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels_de, 1, 1)

    def forward(self, de: Tensor) -> Tensor:
        """The gate ``(N, 1, H, W)``, before nearest-neighbour upsampling and sigmoid."""
        return self.conv(de)


@MMENGINE_MODELS.register_module('fade')
@MODELS.register_module('fade')
class FADE(nn.Module):
    """FADE upsampling, ``up(en, de)``.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions. Default: 2.
        up_kernel_size: Upsampling kernel size K, odd. Default: 5.
        embedding_dim: Channels d that the kernel generator compresses to. Default: 64.
        gating: Blend the encoder feature in with the decoder-dependent gate; needs equal numbers
            of channels. Default: True.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    guided = True
    when_skip_is_added = {'gating': False}
    _depthwise = False

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        up_kernel_size: int = 5,
        embedding_dim: int = 64,
        gating: bool = True,
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
        if not isinstance(gating, bool):
            raise TypeError(f'gating must be True or False, got {gating!r}')
        if gating and in_channels_en != in_channels_de:
            raise ValueError(
                'gating blends en and de, so their channels must be equal, got '
                f'in_channels_en={in_channels_en} and in_channels_de={in_channels_de}; '
                'make them equal or set gating=False'
            )
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        self.scale_factor = scale_factor
        self.gate_generator = GateGenerator(in_channels_de) if gating else None
        self.ker_generator = SemiShiftKernelGenerator(
            in_channels_en, in_channels_de, up_kernel_size, embedding_dim, self._depthwise
        )
        self.register_load_state_dict_pre_hook(_rename_h2l)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform weights and zero biases, as the authors' L2H code starts."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, en: Tensor, de: Tensor) -> Tensor:
        """Upsample ``de`` to the size of ``en``.

        Args:
            en: Encoder feature ``(N, in_channels_en, h, w)``.
            de: Decoder feature ``(N, in_channels_de, H, W)``, ``H`` being ``h / scale_factor``
                rounded up or down, and ``W`` likewise; or ``H == h`` and ``W == w``.

        Returns:
            The upsampled feature ``(N, in_channels_de, h, w)`` in the dtype of ``de``.

        Raises:
            TypeError, ValueError: the tensors do not fit the layer or each other.
        """
        check_feature('en', en, self.in_channels_en)
        check_feature('de', de, self.in_channels_de)
        check_pair('en', en, de, self.scale_factor)
        check_dtypes(self.ker_generator.compressor_de.weight.dtype, en=en, de=de)
        logits, logits_de = self.ker_generator(en, de)
        gated = self.gate_generator is not None
        return gated_reassemble(
            de,
            logits,
            logits_de=logits_de,
            gate=self.gate_generator(de) if gated else None,
            en=en if gated else None,
            scale_factor=self.scale_factor,
        )


@MMENGINE_MODELS.register_module('fade_lite')
@MODELS.register_module('fade_lite')
class FADELite(FADE):
    """FADE-Lite (arXiv 2407.13500): `FADE` with a depthwise semi-shift convolution.

    Args:
        in_channels_en, in_channels_de, scale_factor, up_kernel_size, gating: As in `FADE`.
    """

    _depthwise = True

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        up_kernel_size: int = 5,
        gating: bool = True,
    ) -> None:
        super().__init__(
            in_channels_en, in_channels_de, scale_factor, up_kernel_size, gating=gating
        )


def _rename_h2l(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Give the parameters of a high-to-low state dict their low-to-high names, in place."""
    for old, new in _H2L_NAMES.items():
        if prefix + old in state_dict:
            state_dict[prefix + new] = state_dict.pop(prefix + old)
