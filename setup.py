"""Packaging of fade_mm; `make` installs it together with everything it stands on."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The requirements in ``requirements/<name>.txt``, without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in (re.sub(r'\s*#.*', '', line) for line in lines) if line]


setup(
    name='fade_mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'fade_mm/__init__.py').read_text())[1],
    description='FADE feature upsampling for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['fade_mm', 'fade_mm.*']),
    python_requires='>=3.11,<3.13',
    install_requires=[
        'torch',
        'mmcv>=2.0.0,<2.2.0',
        'mmengine>=0.10',
        'matplotlib',
        'numpy',
        'opencv-python',
        'prettytable',
        'rich',
    ],
    extras_require={name: requirements(name) for name in ('mmdet', 'mmseg', 'tests')},
)
