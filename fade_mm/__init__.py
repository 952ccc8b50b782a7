"""FADE and FADE-Lite feature upsampling for OpenMMLab (arXiv 2207.10392 and 2407.13500)."""

__version__ = '0.1.0'
