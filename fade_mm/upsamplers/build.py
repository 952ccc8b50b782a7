"""`build_upsampler`: how necks and heads get an upsampler without knowing which; the presets."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches

from torch import nn

from fade_mm.ops.checks import check_positive

from . import (  # noqa: F401  (they register themselves)
    a2u,
    carafe,
    depthwise,
    dysample,
    fade,
    freqfusion,
    indexnet,
    lda_aqu,
    sapa,
    sapa_d,
)
from .base import AsUpsampler, DecoderUpsampler, Upsampler, as_skip
from .registry import MMENGINE_MODELS, MODELS, UPSAMPLERS, register_upsampler
from .stock import transposed_geometry

_SEMI_SHIFT = dict(type='fade', kernel_source='both', kernel_generation='semi-shift')
PRESETS = {
    'fade_b1': dict(type='fade', kernel_source='encoder', fusion='none'),
    'fade_b2': dict(type='fade', kernel_source='decoder', fusion='none'),
    'fade_b3': dict(type='fade', kernel_source='both', kernel_generation='naive', fusion='none'),
    'fade_b4': dict(_SEMI_SHIFT, fusion='none'),
    'fade_b5': dict(_SEMI_SHIFT, fusion='skip'),
    'fade_b6': dict(_SEMI_SHIFT, fusion='gate'),
    'sapa_i': dict(type='sapa', similarity='inner'),
    'sapa_b': dict(type='sapa', similarity='bilinear'),
    'sapa_g': dict(type='sapa', similarity='gated'),
    'dysample_plus': dict(type='dysample', style='lp', dyscope=True),
    'dysample_s': dict(type='dysample', style='pl', dyscope=False),
    'dysample_s_plus': dict(type='dysample', style='pl', dyscope=True),
    'indexnet_m2o': dict(type='indexnet', network='m2o', nonlinear=False, context=False),
    'indexnet_matting': dict(
        type='indexnet', network='m2o', nonlinear=True, context=True, hidden_ratio=2
    ),
    'a2u_published': dict(type='a2u', downsampling=True),
    'freqfusion_segnext': dict(
        type='freqfusion', compression=4, hamming_window=False, direction_feat='sim'
    ),
    'deconv3': dict(type='deconv', kernel_size=3),
    'pixel_shuffle3': dict(type='pixel_shuffle', upsample_kernel=3),
}
"""Published variants: upsamplers with arguments that their names stand for.

`fade`, `fade_lite`, `carafe`, `dysample`, `indexnet`, `a2u`, `freqfusion`, `sapa_d` and `lda_aqu`
are published as their defaults are.
"""


_SETTLED = ('skip_is_added', 'device', 'dtype')  # no matter of a config


def build_upsampler(
    cfg: dict,
    in_channels_en: int,
    in_channels_de: int,
    *,
    scale_factor: int = 2,
    skip: str | None = None,
    skip_is_added: bool | None = None,
    gating: bool | None = None,
) -> Upsampler:
    """Build an upsampler that is called as ``up(en, de)``.

    ``type`` is the name of an upsampler or preset of ours, or of a layer in mmengine's registries
    whose constructor takes ``scale_factor``, or a class. What the layer needs and ``cfg`` does not
    say is supplied: channels, scale factor, ``skip``. A ``mode`` that a host's own
    ``upsample_cfg`` left over is ignored by layers that have none.

    Args:
        cfg: Config of the layer: ``type`` and any of its arguments.
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature, and of the output.
        scale_factor: Ratio of the two resolutions; ``cfg`` may override it. Default: 2.
        skip: What the host itself does with the encoder feature: ``'added'`` to the output,
            ``'concatenated'`` with it, or ``None``, nothing. A layer that takes ``skip`` is told
            (FADE: gate off where it is added, unless asked for). Default: ``None``.
        skip_is_added: The old spelling of ``skip='added'``. Default: ``None``, as ``skip`` says.
        gating: Whether a layer that can have a gate has it where neither ``cfg`` nor the name of a
            preset says how features are fused. Default: ``None``, as the layer does.

    Returns:
        An upsampler with an output of the size of ``en``. Layers that take ``de`` alone are wrapped
        in `AsUpsampler`.

    Raises:
        TypeError: ``cfg`` has no ``type``, or arguments that the layer does not take or lacks.
        ValueError: no upsampler of that name is registered, or an argument is wrong, or it
            contradicts the name of a preset.

    Example:
        >>> import torch
        >>> from fade_mm.upsamplers import build_upsampler
        >>> build_upsampler(dict(type='sapa_b'), 256, 256)(
        ...     torch.rand(1, 256, 7, 9), torch.rand(1, 256, 4, 5)
        ... ).shape
        torch.Size([1, 256, 7, 9])
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(
            f"upsample_cfg must be a dict with a 'type', e.g. dict(type='fade'), got {cfg!r}"
        )
    skip = as_skip(skip, skip_is_added)
    args = dict(cfg)
    build = find_upsampler(args.pop('type'))
    signature = inspect.signature(build)
    accepted = signature.parameters
    if 'mode' not in accepted:
        args.pop('mode', None)
    scale_factor = args.get('scale_factor', scale_factor)
    check_positive(scale_factor=scale_factor)
    supplied = {
        'in_channels_en': in_channels_en,
        'in_channels_de': in_channels_de,
        'channels': in_channels_de,
        'in_channels': in_channels_de,
        'out_channels': in_channels_de,
        'scale_factor': scale_factor,
    }
    if 'skip' in accepted:
        if 'skip_is_added' not in args:
            supplied['skip'] = skip
    else:
        supplied['skip_is_added'] = skip == 'added'
    if 'fusion' in accepted and accepted['fusion'].default is None and 'fusion' not in args:
        supplied['gating'] = gating
    transposed = inspect.isclass(build) and issubclass(build, nn.ConvTranspose2d)
    if transposed and not issubclass(build, Upsampler) and 'kernel_size' in args:
        supplied |= transposed_geometry(args['kernel_size'], scale_factor)
    own = [name for name in accepted if name not in (*supplied, *_SETTLED)]
    args = {name: value for name, value in supplied.items() if name in accepted} | args
    try:
        signature.bind(**args)
    except TypeError as error:
        unknown = next((name for name in args if name not in accepted), '')
        near = get_close_matches(unknown, own, 1)
        hint = f'; did you mean {near[0]}' if near else ''
        raise TypeError(
            f'cannot build the upsampler {cfg}: {error}{hint}; its arguments are {", ".join(own)}'
        ) from None
    layer = build(**args)
    if isinstance(layer, DecoderUpsampler) or not isinstance(layer, Upsampler):
        layer = AsUpsampler(layer, scale_factor)
    layer.skip = skip
    return layer


def find_upsampler(layer_type: str | type) -> Callable[..., nn.Module]:
    """What builds the layers of a type: ours, then mmengine's or the default scope's.

    Args:
        layer_type: A name or a class, as in `build_upsampler`.

    Raises:
        TypeError: it is neither.
        ValueError: nothing is registered under the name.
    """
    if inspect.isclass(layer_type) or layer_type in UPSAMPLERS.values():
        return layer_type
    if not isinstance(layer_type, str):
        raise TypeError(f'the type of an upsampler must be a name or a class, got {layer_type!r}')
    build = UPSAMPLERS.get(layer_type.removeprefix('fade_mm.'))
    build = build or _find_in_mmengine(layer_type)
    if build is None:
        near = get_close_matches(layer_type.lower(), UPSAMPLERS, 1)
        hint = f'the nearest is {near[0]!r}; ' if near else ''
        raise ValueError(
            f'no upsampler is registered as {layer_type!r}; {hint}there are '
            f'{", ".join(sorted(UPSAMPLERS))}'
        )
    return build


def _find_in_mmengine(layer_type: str) -> type | None:
    """A class that somebody else registered, if it can be an upsampler."""
    if MODELS is None:
        return None
    cls = MODELS.module_dict.get(layer_type.removeprefix('fade_mm.'))
    if cls is None:
        with MMENGINE_MODELS.switch_scope_and_registry(None) as registry:
            cls = registry.get(layer_type)
    if not inspect.isclass(cls):
        return None
    upsamples = issubclass(cls, Upsampler) or 'scale_factor' in inspect.signature(cls).parameters
    return cls if upsamples else None


def _preset(name: str) -> Callable[..., nn.Module]:
    """A function that builds the layer of a preset."""
    settled = dict(PRESETS[name])
    layer = UPSAMPLERS[settled.pop('type')]
    signature = inspect.signature(layer)

    def build(*args, **kwargs) -> nn.Module:
        given = signature.bind_partial(*args, **kwargs).arguments
        for argument, value in settled.items():
            if given.setdefault(argument, value) != value:
                raise ValueError(
                    f'{name!r} stands for {PRESETS[name]}, which {argument}={given[argument]!r} '
                    f'contradicts; leave it out, or use type={PRESETS[name]["type"]!r}'
                )
        return layer(**given)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f'`{layer.__name__}` with {settled}.'
    build.__signature__ = inspect.Signature(
        parameter.replace(default=settled[key]) if key in settled else parameter
        for key, parameter in signature.parameters.items()
    )
    return build


for _name in PRESETS:
    register_upsampler(_name)(_preset(_name))
