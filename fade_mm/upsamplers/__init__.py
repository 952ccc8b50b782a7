"""Upsample layers, one file per published operator, and the builder that hosts call."""

from . import flops  # noqa: F401
from .builder import Unguided, build_upsampler
from .carafe import CARAFE
from .fade import FADE, FADELite

__all__ = ['CARAFE', 'FADE', 'FADELite', 'Unguided', 'build_upsampler']
