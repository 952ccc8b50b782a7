"""Upsample layers, one file per published operator, and the builder that hosts call.

PyTorch alone is enough. Where mmengine is installed, its registries and its analyser know them too.
"""

from .a2u import A2U
from .base import AsUpsampler, DecoderUpsampler, Upsampler, View, named_upsamplers
from .build import PRESETS, build_upsampler
from .carafe import CARAFE
from .depthwise import Depthwise
from .dysample import DySample
from .fade import FADE, FADELite
from .freqfusion import FreqFusion
from .indexnet import IndexNet
from .lda_aqu import LDAAQU
from .registry import MODELS, UPSAMPLERS, register_upsampler
from .sapa import SAPA
from .sapa_d import SAPAD
from .stock import Bilinear, Deconv, Nearest, PixelShuffle

if MODELS is not None:
    from fade_mm.analysis import flops  # noqa: F401  (teaches mmengine's analyser the operator)

Unguided = AsUpsampler
"""The old name of `AsUpsampler`."""

__all__ = [
    'A2U',
    'CARAFE',
    'FADE',
    'LDAAQU',
    'PRESETS',
    'SAPA',
    'SAPAD',
    'UPSAMPLERS',
    'AsUpsampler',
    'Bilinear',
    'DecoderUpsampler',
    'Deconv',
    'Depthwise',
    'DySample',
    'FADELite',
    'FreqFusion',
    'IndexNet',
    'Nearest',
    'PixelShuffle',
    'Unguided',
    'Upsampler',
    'View',
    'build_upsampler',
    'named_upsamplers',
    'register_upsampler',
]
