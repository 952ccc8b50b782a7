"""The upsamplers by name; where mmengine is installed, its registries have them too."""

from collections.abc import Callable

from torch import nn

try:
    from mmengine.registry import MODELS as MMENGINE_MODELS

    from fade_mm.registry import MODELS
except ImportError:  # torch alone is enough
    MODELS = MMENGINE_MODELS = None

UPSAMPLERS: dict[str, Callable[..., nn.Module]] = {}
"""Every upsampler and preset by name."""
_NAMES_OF_MMCV = ('bilinear', 'carafe', 'deconv', 'nearest', 'pixel_shuffle')


def register_upsampler(name: str) -> Callable:
    """A decorator that gives an upsampler a name, for `build_upsampler` and for mmengine's configs.

    It is then found in scope ``fade_mm`` and, unless mmcv has a layer of that name, in mmengine's
    root registry.

    Args:
        name: The name, e.g. ``'fade'``.

    Returns:
        The decorator, which returns the layer as it is.

    Raises:
        KeyError: where mmengine is installed, the name is taken in one of its registries.

    Example:
        >>> from fade_mm.upsamplers import DecoderUpsampler, build_upsampler, register_upsampler
        >>> @register_upsampler('repeat')
        ... class Repeat(DecoderUpsampler):
        ...     def enlarge(self, de):
        ...         return de.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        >>> up = build_upsampler(dict(type='repeat'), 8, 8)
    """

    def register(layer: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if MODELS is not None:
            MODELS.register_module(name, module=layer)
            if name not in _NAMES_OF_MMCV:
                MMENGINE_MODELS.register_module(name, module=layer)
        UPSAMPLERS[name] = layer
        return layer

    return register
