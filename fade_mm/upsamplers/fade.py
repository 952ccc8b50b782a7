"""FADE: Fusing the Assets of Decoder and Encoder for task-agnostic upsampling.

Papers: arXiv 2207.10392 (ECCV 2022) and arXiv 2407.13500 (IJCV 2024). This is the low-to-high
formulation (L2H) with the parameter names of the authors' code; their high-to-low formulation is
equal to it, and its state dict loads too.
"""

import torch
from torch import Tensor, nn

from fade_mm.ops.checks import check_odd, check_positive
from fade_mm.ops.geometry import nearest_up

from .base import Upsampler, View, as_skip, kernels_view, start
from .by_group import check_groups, reassemble_by_group
from .kernel_generators import KERNEL_GENERATORS
from .pointwise import pointwise
from .registry import register_upsampler

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
        device, dtype: Where and what the weights are. Default: PyTorch's.
    """

    def __init__(
        self,
        in_channels_de: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels_de, 1, 1, device=device, dtype=dtype)

    def init_weights(self) -> None:
        """Xavier-uniform weight and zero bias."""
        start(self, nn.init.xavier_uniform_)

    def forward(self, de: Tensor) -> Tensor:
        """The gate ``(N, 1, H, W)``, before nearest-neighbour upsampling and sigmoid."""
        return pointwise(self.conv, de)


@register_upsampler('fade')
class FADE(Upsampler):
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
            numbers of channels. Default: ``None``, as ``gating`` says; if that says nothing,
            ``'none'`` where the host adds the encoder feature or the numbers of channels differ,
            ``'gate'`` elsewhere.
        kernel_source: Features that the kernels are made from: ``'both'``, ``'encoder'`` or
            ``'decoder'``. Default: ``'both'``.
        kernel_generation: How kernels are made from both: ``'semi-shift'``, ``'semi-shift-h2l'``
            (the same, computed high to low, with more memory) or ``'naive'``.
            Default: ``'semi-shift'``.
        skip_is_added: The old spelling of ``skip='added'``. Default: ``None``, as ``skip`` says.
        skip: What you (or the host model) do with the encoder feature afterwards: ``'added'`` to
            the output, as FPNs do (no gate then, which would add it twice), ``'concatenated'`` with
            it, as U-Nets do, or ``None``, nothing. Default: ``None``.
        device, dtype: Where and what the weights are. Default: PyTorch's.
        up_group: Groups of channels with kernels of their own; divides ``in_channels_de``. More
            than one is ours, not the paper's, and has no published figures; the gate
            stays one for all. Default: 1.

    Raises:
        TypeError, ValueError: an argument is wrong, or two contradict each other.

    Source: arXiv 2207.10392, section 4; the ablation, section 5.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import FADE
        >>> FADE(8)(torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 7, 9])
    """

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
        skip_is_added: bool | None = None,
        skip: str | None = None,
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
        without = as_skip(skip, skip_is_added) == 'added' or in_channels_en != in_channels_de
        self.fusion = _fusion(gating, fusion, 'none' if without else 'gate')
        if self.fusion != 'none' and in_channels_en != in_channels_de:
            raise ValueError(
                f'{"gating=True" if gating else f"fusion={fusion!r}"} joins en and de, so their '
                f'channels must be equal, got in_channels_en={in_channels_en} and '
                f'in_channels_de={in_channels_de}; make them equal or leave it out'
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
        self.up_kernel_size = up_kernel_size
        self.embedding_dim = embedding_dim
        self.kernel_source = kernel_source
        self.kernel_generation = kernel_generation
        self.up_group = up_group
        factory = dict(device=device, dtype=dtype)
        gated = self.fusion == 'gate'
        self.gate_generator = GateGenerator(in_channels_de, **factory) if gated else None
        self.ker_generator = KERNEL_GENERATORS[kernel_source, kernel_generation](
            in_channels_en,
            in_channels_de,
            up_kernel_size,
            embedding_dim,
            self._depthwise,
            scale_factor,
            up_group,
            **factory,
        )
        self._register_load_state_dict_pre_hook(_rename_h2l, with_module=True)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform weights and zero biases, as the authors' L2H code starts."""
        for generator in self.children():
            generator.init_weights()

    def upsample(self, en: Tensor, de: Tensor) -> Tensor:
        """Reassemble ``de``, and join ``en`` as ``fusion`` says."""
        logits, logits_de = self.ker_generator(en, de)
        gated = self.gate_generator is not None
        y = reassemble_by_group(
            de,
            logits,
            self.up_group,
            logits_de=logits_de,
            gate=self.gate_generator(de) if gated else None,
            en=en if gated else None,
            scale_factor=self.scale_factor,
        )
        return y + en.to(y.dtype) if self.fusion == 'skip' else y

    def views(self, en: Tensor, de: Tensor) -> list[View]:
        """The kernels ``(N * up_group, K*K, h, w)``, and the gate ``(N, 1, H, W)`` if any."""
        logits, logits_de = self.ker_generator(en, de)
        if logits_de is not None:
            logits = logits + nearest_up(logits_de, logits.shape[2:], self.scale_factor)
        views = [kernels_view(logits, self.up_group)]
        if self.gate_generator is not None:
            gate = self.gate_generator(de).sigmoid()
            views.append(View('gate', gate, 'share of the encoder feature in the output'))
        return views


@register_upsampler('fade_lite')
class FADELite(FADE):
    """FADE-Lite (arXiv 2407.13500): `FADE` with a depthwise semi-shift convolution.

    Args:
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature. Default: ``in_channels_en``.
        scale_factor: Ratio of the two resolutions. Default: 2.
        up_kernel_size: Upsampling kernel size K, odd; the features are compressed to K*K channels.
            Default: 5.
        gating, fusion, skip_is_added, skip: As in `FADE`.
        device, dtype: Where and what the weights are. Default: PyTorch's.
        up_group: Groups of channels with kernels of their own, each of K*K compressed channels of
            its own; divides ``in_channels_de``. More than one is ours, not the paper's, and has no
            published figures; the gate stays one for all. Default: 1.

    Raises:
        TypeError, ValueError: an argument is wrong, or two contradict each other.

    Source: arXiv 2407.13500, section 4.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import FADELite
        >>> FADELite(8)(torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)).shape
        torch.Size([1, 8, 7, 9])
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
        skip_is_added: bool | None = None,
        skip: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        up_group: int = 1,
    ) -> None:
        super().__init__(
            in_channels_en,
            in_channels_de,
            scale_factor,
            up_kernel_size,
            gating=gating,
            fusion=fusion,
            skip_is_added=skip_is_added,
            skip=skip,
            up_group=up_group,
            device=device,
            dtype=dtype,
        )


def _fusion(gating: bool | None, fusion: str | None, default: str) -> str:
    """The fusion that the arguments of `FADE` ask for."""
    if gating is not None and not isinstance(gating, bool):
        raise TypeError(f'gating must be True or False, got {gating!r}')
    if fusion not in (None, 'gate', 'skip', 'none'):
        raise ValueError(f"fusion must be 'gate', 'skip' or 'none', got {fusion!r}")
    if gating is None:
        return fusion or default
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
