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

from .kernel_generators import KERNEL_GENERATORS
from .pointwise import pointwise

_H2L_NAMES = {
    'kernel_generator.conv1_en.weight': 'ker_generator.compressor_en.weight',
    'kernel_generator.conv1_en.bias': 'ker_generator.compressor_en.bias',
    'kernel_generator.conv1_de.weight': 'ker_generator.compressor_de.weight',
    'kernel_generator.conv2_kernels': 'ker_generator.content_encoder.weight',
    'kernel_generator.conv2_bias': 'ker_generator.content_encoder.bias',
}


class GateGenerator(nn.Module):
    """The decoder-dependent gate before its sigmoid (arXiv 2207.10392, section 4.3).

    Args:
        in_channels_de: Channels of the decoder feature.
    """

    def __init__(self, in_channels_de: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels_de, 1, 1)

    def init_weights(self) -> None:
        """Xavier-uniform weight and zero bias."""
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, de: Tensor) -> Tensor:
        """The gate ``(N, 1, H, W)``, before nearest-neighbour upsampling and sigmoid."""
        return pointwise(self.conv, de)


@MMENGINE_MODELS.register_module('fade')
@MODELS.register_module('fade')
class FADE(nn.Module):
    """FADE upsampling, ``up(en, de)``.

    The rows of the paper's ablation: B1 is ``kernel_source='encoder', fusion='none'``; B2 is
    ``kernel_source='decoder', fusion='none'``, which is CARAFE; B3 to B6 use both sources, B3 with
    ``kernel_generation='naive', fusion='none'``, B4 with ``fusion='none'``, B5 with
    ``fusion='skip'``, and B6 is the default.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions. Default: 2.
        up_kernel_size: Upsampling kernel size K, odd. Default: 5.
        embedding_dim: Channels d that the kernel generator compresses to. Default: 64.
        gating: The authors' switch: True stands for ``fusion='gate'``, False for ``'none'``.
            Default: ``None``, as ``fusion`` says.
        fusion: How the encoder feature joins the reassembled feature: ``'gate'`` (blended in with
            the decoder-dependent gate), ``'skip'`` (added) or ``'none'``; the first two need equal
            numbers of channels. Default: ``None``, as ``gating`` says; if that says nothing, the
            gate, or none where ``skip_is_added``.
        kernel_source: Features that the kernels are made from: ``'both'``, ``'encoder'`` or
            ``'decoder'``. Default: ``'both'``.
        kernel_generation: How kernels are made from both: ``'semi-shift'``, ``'semi-shift-h2l'``
            (the same, computed high to low, with more memory) or ``'naive'``.
            Default: ``'semi-shift'``.
        skip_is_added: Whether the host adds the encoder feature to the output. Default: False.

    Raises:
        TypeError, ValueError: an argument is wrong, or two contradict each other.
    """

    guided = True
    _depthwise = False

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        up_kernel_size: int = 5,
        embedding_dim: int = 64,
        gating: bool | None = None,
        fusion: str | None = None,
        kernel_source: str = 'both',
        kernel_generation: str = 'semi-shift',
        skip_is_added: bool = False,
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
        self.fusion = _fusion(gating, fusion, skip_is_added)
        if self.fusion != 'none' and in_channels_en != in_channels_de:
            raise ValueError(
                f"fusion='{self.fusion}' joins en and de, so their channels must be equal, got "
                f'in_channels_en={in_channels_en} and in_channels_de={in_channels_de}; '
                "make them equal or set gating=False (which is fusion='none')"
            )
        if (kernel_source, kernel_generation) not in KERNEL_GENERATORS:
            raise ValueError(
                f'no kernels from kernel_source={kernel_source!r} with '
                f'kernel_generation={kernel_generation!r}; there are '
                + ', '.join(' with '.join(key) for key in KERNEL_GENERATORS)
            )
        self.in_channels_en = in_channels_en
        self.in_channels_de = in_channels_de
        self.scale_factor = scale_factor
        self.gate_generator = GateGenerator(in_channels_de) if self.fusion == 'gate' else None
        self.ker_generator = KERNEL_GENERATORS[kernel_source, kernel_generation](
            in_channels_en,
            in_channels_de,
            up_kernel_size,
            embedding_dim,
            self._depthwise,
            scale_factor,
        )
        self.register_load_state_dict_pre_hook(_rename_h2l)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform weights and zero biases, as the authors' L2H code starts."""
        for generator in self.children():
            generator.init_weights()

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
        check_dtypes(self, en=en, de=de)
        logits, logits_de = self.ker_generator(en, de)
        gated = self.gate_generator is not None
        y = gated_reassemble(
            de,
            logits,
            logits_de=logits_de,
            gate=self.gate_generator(de) if gated else None,
            en=en if gated else None,
            scale_factor=self.scale_factor,
        )
        return y + en.to(y.dtype) if self.fusion == 'skip' else y


@MMENGINE_MODELS.register_module('fade_lite')
@MODELS.register_module('fade_lite')
class FADELite(FADE):
    """FADE-Lite (arXiv 2407.13500): `FADE` with a depthwise semi-shift convolution.

    Args:
        in_channels_en, in_channels_de, scale_factor, up_kernel_size, gating, fusion,
        skip_is_added: As in `FADE`.
    """

    _depthwise = True

    def __init__(
        self,
        in_channels_en: int,
        in_channels_de: int | None = None,
        scale_factor: int = 2,
        up_kernel_size: int = 5,
        gating: bool | None = None,
        fusion: str | None = None,
        skip_is_added: bool = False,
    ) -> None:
        super().__init__(
            in_channels_en,
            in_channels_de,
            scale_factor,
            up_kernel_size,
            gating=gating,
            fusion=fusion,
            skip_is_added=skip_is_added,
        )


def _fusion(gating: bool | None, fusion: str | None, skip_is_added: bool) -> str:
    """The fusion that the arguments of `FADE` ask for."""
    if gating is not None and not isinstance(gating, bool):
        raise TypeError(f'gating must be True or False, got {gating!r}')
    if fusion not in (None, 'gate', 'skip', 'none'):
        raise ValueError(f"fusion must be 'gate', 'skip' or 'none', got {fusion!r}")
    if gating is None:
        return fusion or ('none' if skip_is_added else 'gate')
    asked = 'gate' if gating else 'none'
    if fusion not in (None, asked):
        raise ValueError(
            f'gating={gating} stands for fusion={asked!r} and contradicts fusion={fusion!r}; '
            'give one of the two'
        )
    return asked


def _rename_h2l(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Give the parameters of a high-to-low state dict their low-to-high names, in place."""
    for old, new in _H2L_NAMES.items():
        if prefix + old in state_dict:
            state_dict[prefix + new] = state_dict.pop(prefix + old)
