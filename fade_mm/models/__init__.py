"""Necks and heads that ask for an upsampler by config.

mmdetection alone, mmsegmentation alone, or both may be installed. The classes of a library that
cannot be imported are registered all the same: building one says what to install.
"""

from importlib import import_module

from fade_mm.registry import MODELS

_HOSTS = {
    'FPN': ('mmdet', 'necks.fpn'),
    'MSDeformAttnPixelDecoder': ('mmdet', 'pixel_decoders.msdeformattn_pixel_decoder'),
    'MaskFormerHead': ('mmdet and mmseg', 'decode_heads.maskformer_head'),
    'MixVisionTransformer': ('mmseg', 'backbones.mit'),
    'PixelDecoder': ('mmdet', 'pixel_decoders.pixel_decoder'),
    'SegFPN': ('mmseg', 'necks.seg_fpn'),
    'SegformerHead': ('mmseg', 'decode_heads.segformer_head'),
    'TransformerEncoderPixelDecoder': ('mmdet', 'pixel_decoders.pixel_decoder'),
    'UPerHead': ('mmseg', 'decode_heads.uper_head'),
}
_PACKAGES = {
    'mmdet': 'mmdet',
    'mmseg': 'mmsegmentation ftfy regex',
    'mmdet and mmseg': 'mmdet mmsegmentation ftfy regex',
}


def _unavailable(name: str, library: str, error: Exception) -> type:
    """A class that stands in for ``name`` and says why it cannot be built."""
    command = f'pip install {_PACKAGES[library]}'
    if getattr(error, 'name', None) == 'mmcv._ext':  # mmcv-lite, or mmcv without its operators
        command = (
            'pip uninstall mmcv mmcv-lite; '
            "MMCV_WITH_OPS=1 pip install --no-build-isolation 'mmcv>=2.0.0rc4,<2.2.0'"
        )

    def __init__(self, *args, **kwargs) -> None:
        raise ImportError(
            f'fade_mm.{name} needs {library}, which cannot be imported ({error}); run: {command}'
        ) from error

    return type(name, (), {'__init__': __init__})


for _name, (_library, _module) in _HOSTS.items():
    try:
        globals()[_name] = getattr(import_module(f'.{_module}', __name__), _name)
    except (ImportError, AssertionError) as _error:  # mmdet and mmseg assert mmcv's version
        globals()[_name] = _unavailable(_name, _library, _error)
        MODELS.register_module(_name, module=globals()[_name])

__all__ = list(_HOSTS)
