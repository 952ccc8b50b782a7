"""`build_upsampler`: how necks and heads get an upsampler without knowing which."""

import inspect

import mmcv.cnn  # noqa: F401  (registers nearest, bilinear, deconv, pixel_shuffle)
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from fade_mm.ops.checks import check_feature, check_pair, check_positive, is_tracing
from fade_mm.ops.sampling import fit_size, step_of
from fade_mm.registry import MODELS


def build_upsampler(
    cfg: dict,
    in_channels_en: int,
    in_channels_de: int,
    *,
    scale_factor: int = 2,
    skip_is_added: bool = False,
) -> nn.Module:
    """Build an upsampler that is called as ``up(en, de)``.

    ``type`` is looked up in scope ``fade_mm`` first, then where mmcv looks. What the layer needs
    and ``cfg`` does not say is supplied: channels and scale factor, for transposed convolutions
    also stride and padding. A ``mode`` that a host's own ``upsample_cfg`` left over is ignored by
    layers that have none.

    Args:
        cfg: Config of the layer: ``type`` and any of its arguments.
        in_channels_en: Channels of the encoder feature.
        in_channels_de: Channels of the decoder feature, and of the output.
        scale_factor: Ratio of the two resolutions; ``cfg`` may override it. Default: 2.
        skip_is_added: Whether the host itself adds the encoder feature to the output. A layer
            class that takes ``skip_is_added`` is told (FADE: gate off unless asked for).
            Default: False.

    Returns:
        A module called as ``up(en, de)`` with an output of the size of ``en``. Classes that
        declare ``guided = True`` are called so as they are; others are wrapped in `Unguided`.

    Raises:
        TypeError: ``cfg`` has no ``type``, or arguments that the layer does not take or lacks.
        ValueError: no layer of that name is registered.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(
            f"upsample_cfg must be a dict with a 'type', e.g. dict(type='fade'), got {cfg!r}"
        )
    args = dict(cfg)
    layer_type = args.pop('type')
    cls = _find(layer_type)
    accepted = inspect.signature(cls).parameters
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
        'skip_is_added': skip_is_added,
    }
    if issubclass(cls, nn.ConvTranspose2d):
        supplied |= _transposed_geometry(args.get('kernel_size'), scale_factor)
    supplied = {name: value for name, value in supplied.items() if name in accepted}
    args = supplied | args
    if cls is nn.Upsample and isinstance(layer_type, str):
        args['mode'] = layer_type
    try:
        layer = cls(**args)
    except TypeError as error:
        raise TypeError(
            f'cannot build the upsampler {cfg}: {error}; arguments are {", ".join(accepted)}'
        ) from error
    up = layer if getattr(cls, 'guided', False) else Unguided(layer, scale_factor)
    up.is_upsampler = True
    return up


class Unguided(nn.Module):
    """Calls a layer that knows no encoder feature as ``up(en, de)``.

    The layer's overhang over ``en`` is cropped; where it falls short of ``en``, at sizes rounded
    down, its last row or column is repeated. A feature that has the size of ``en`` already is
    passed on. Weights load under the layer's own names, too.

    Args:
        layer: Upsamples ``(N, C, H, W)`` by ``scale_factor``, called as ``layer(de)``.
        scale_factor: The layer's ratio.
    """

    def __init__(self, layer: nn.Module, scale_factor: int) -> None:
        super().__init__()
        self.layer = layer
        self.scale_factor = scale_factor
        self.register_load_state_dict_pre_hook(_into_layer)

    def init_weights(self) -> None:
        """Initialise the layer, if it says how."""
        if hasattr(self.layer, 'init_weights'):
            self.layer.init_weights()

    def forward(self, en: Tensor, de: Tensor) -> Tensor:
        """Upsample ``de`` ``(N, C, H, W)`` to the size of ``en`` ``(N, _, h, w)``.

        Raises:
            TypeError, ValueError: the tensors do not fit each other, or the layer's output has
                another size than ``scale_factor`` says.
        """
        check_feature('en', en)
        check_feature('de', de)
        check_pair('en', en, de, self.scale_factor)
        if step_of(en.shape[2:], de.shape[2:], self.scale_factor) == 1:
            return de
        out = self.layer(de)
        if not is_tracing() and any(
            abs(a - self.scale_factor * b) >= self.scale_factor
            for a, b in zip(out.shape[2:], de.shape[2:], strict=True)
        ):
            raise ValueError(
                f'{type(self.layer).__name__} was to upsample {tuple(de.shape)} by '
                f'{self.scale_factor}, got {tuple(out.shape)}; change its kernel size, stride or '
                'padding'
            )
        return fit_size(out, en.shape[2:])


def _into_layer(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Give the parameters of a layer that was not wrapped the wrapped names, in place."""
    for name in module.layer.state_dict():
        if prefix + name in state_dict:
            state_dict[f'{prefix}layer.{name}'] = state_dict.pop(prefix + name)


def _find(layer_type: str | type) -> type:
    """The layer class registered under a name: ours, then mmengine's or the default scope's."""
    if inspect.isclass(layer_type):
        return layer_type
    if not isinstance(layer_type, str):
        raise TypeError(f'the type of an upsampler must be a name or a class, got {layer_type!r}')
    cls = MODELS.module_dict.get(layer_type.removeprefix('fade_mm.'))
    if cls is None:
        with MMENGINE_MODELS.switch_scope_and_registry(None) as registry:
            cls = registry.get(layer_type)
    if cls is None:
        ours = sorted(name for name, c in MODELS.module_dict.items() if hasattr(c, 'guided'))
        raise ValueError(
            f'no upsampler is registered as {layer_type!r}; there are {", ".join(ours)}, and '
            "mmcv's nearest, bilinear, deconv, pixel_shuffle"
        )
    return cls


def _transposed_geometry(kernel_size: int | None, scale_factor: int) -> dict:
    """Arguments that make a transposed convolution upsample by exactly ``scale_factor``."""
    if not isinstance(kernel_size, int):
        raise TypeError(f"upsampler 'deconv' needs an int kernel_size, got {kernel_size!r}")
    padding = max(0, -((scale_factor - kernel_size) // 2))
    return {
        'stride': scale_factor,
        'padding': padding,
        'output_padding': scale_factor + 2 * padding - kernel_size,
    }
