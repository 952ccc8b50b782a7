"""Upsample layers, one file per published operator, and the builder that hosts call."""

from . import flops  # noqa: F401
from .a2u import A2U
from .builder import Unguided, build_upsampler
from .carafe import CARAFE
from .dysample import DySample
from .fade import FADE, FADELite
from .indexnet import IndexNet
from .sapa import SAPA

__all__ = [
    'A2U',
    'CARAFE',
    'FADE',
    'SAPA',
    'DySample',
    'FADELite',
    'IndexNet',
    'Unguided',
    'build_upsampler',
]
