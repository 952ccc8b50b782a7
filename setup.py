"""Packaging of fade_mm; `make` installs it together with everything it stands on.

The CPU kernel is built where torch can be imported, that is with ``--no-build-isolation``, and a
C++ compiler is found. Without it everything works, more slowly.
"""

import platform
import re
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The requirements in ``requirements/<name>.txt``, without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in (re.sub(r'\s*#.*', '', line) for line in lines) if line]


def cpu_kernel() -> dict:
    """What `setup` needs to build the CPU kernel; nothing where torch is absent."""
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except (ImportError, OSError) as error:  # OSError: torch's own libraries are missing
        print(f'fade_mm: no CPU kernel, since torch cannot be imported: {error}', file=sys.stderr)
        return {}

    # One file per instruction set, chosen at run time: a wheel runs on any machine of its kind.
    instruction_sets = {'baseline': [], 'avx2': [], 'avx512': []}
    if platform.machine() in ('x86_64', 'AMD64'):
        instruction_sets['avx2'] = ['-mavx2', '-mfma']
        instruction_sets['avx512'] = ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl']
    flags = ['-O3', '-ffp-contract=fast']
    # PyTorch's thread pool is OpenMP's: without this flag its parallel_for runs on one thread.
    threads = ['-fopenmp'] if sys.platform == 'linux' else []

    class Build(BuildExtension):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, use_ninja=False)

        def run(self):
            try:
                super().run()
            except Exception as error:
                print(f'fade_mm: no CPU kernel, since it cannot be built: {error}', file=sys.stderr)

        def build_extension(self, extension):
            for name, more in instruction_sets.items():
                extension.extra_objects += self.compiler.compile(
                    [f'fade_mm/ops/backend/cpu/csrc/kernel_{name}.cpp'],
                    output_dir=self.build_temp,
                    extra_postargs=[*flags, *more],
                )
            super().build_extension(extension)

    extension = CppExtension(
        'fade_mm.ops.backend.cpu._kernel',
        ['fade_mm/ops/backend/cpu/csrc/bind.cpp'],
        depends=['setup.py', *map(str, Path('fade_mm/ops/backend/cpu/csrc').iterdir())],
        extra_compile_args=[*flags, *threads],
        extra_link_args=threads,
        optional=True,
    )
    return {'ext_modules': [extension], 'cmdclass': {'build_ext': Build}}


class BuildPackage(build_py):
    """Puts configs and tools into a wheel, where mim and `fade_mm.shipped` look for them."""

    def run(self):
        super().run()
        if self.editable_mode:  # they are found in the checkout
            return
        place = Path(self.build_lib, 'fade_mm/.mim')
        shutil.rmtree(place, ignore_errors=True)
        for name in ('configs', 'tools'):
            shutil.copytree(name, place / name, ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy('model-index.yml', place)


KERNEL = cpu_kernel()
setup(
    name='fade_mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'fade_mm/__init__.py').read_text())[1],
    description='FADE feature upsampling for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['fade_mm', 'fade_mm.*']),
    package_data={'fade_mm': ['py.typed', 'papers/tables.yml']},
    python_requires='>=3.11,<3.13',
    install_requires=[
        'torch>=2.4',
        'mmcv>=2.0.0,<2.2.0',
        'mmengine>=0.10',
        'matplotlib',
        'numpy',
        'opencv-python',
        'prettytable',
        'rich',
    ],
    extras_require={name: requirements(name) for name in ('mmdet', 'mmseg', 'onnx', 'tests')},
    entry_points={'console_scripts': ['fade-mm = fade_mm.cli:main']},
    ext_modules=KERNEL.get('ext_modules', []),
    cmdclass={'build_py': BuildPackage, **KERNEL.get('cmdclass', {})},
)
