"""FADE and FADE-Lite feature upsampling (arXiv 2207.10392 and 2407.13500).

The layers, here and in `fade_mm.upsamplers`, need torch alone; they are imported when they are
asked for. Everything else stands on OpenMMLab's libraries.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .upsamplers import (
        A2U,
        CARAFE,
        FADE,
        LDAAQU,
        SAPA,
        SAPAD,
        DySample,
        FADELite,
        FreqFusion,
        IndexNet,
        build_upsampler,
    )

__version__ = '0.1.0'
__all__ = [
    'A2U',
    'CARAFE',
    'FADE',
    'LDAAQU',
    'SAPA',
    'SAPAD',
    'DySample',
    'FADELite',
    'FreqFusion',
    'IndexNet',
    'build_upsampler',
]


def __getattr__(name: str):
    if name in __all__:
        from fade_mm import upsamplers

        return getattr(upsamplers, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
