"""Packaging of fade_mm; `make` installs it together with everything that OpenMMLab's side needs.

The CPU kernel needs a C++ compiler and Python's headers, nothing of torch. Without it everything
works, more slowly.
"""

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CSRC = 'fade_mm/ops/backend/cpu/csrc'
# One file per instruction set, chosen at run time: a wheel runs on any machine of its kind.
INSTRUCTION_SETS = {'baseline': [], 'avx2': [], 'avx512': []}
if platform.machine() in ('x86_64', 'AMD64'):
    INSTRUCTION_SETS['avx2'] = ['-mavx2', '-mfma']
    INSTRUCTION_SETS['avx512'] = ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl']
KERNEL_IS_NEEDED = os.environ.get('FADE_MM_NEEDS_KERNEL') == '1'  # for whoever makes wheels
FLAGS = ['-std=c++17', '-O3', '-g0', '-ffp-contract=fast', '-fvisibility=hidden']

# What OpenMMLab's side imports. mmcv is compiled against the torch that is there, so pip cannot get
# it as part of something else: fade_mm/openmmlab.py says how, when it is missing.
MMENGINE = [
    'matplotlib',
    'mmengine>=0.10',
    'numpy',
    'opencv-python',
    'prettytable',
    'pyyaml',
    'rich',
    'setuptools<81',  # mmengine imports pkg_resources
]
EXTRAS = {
    'mmdet': [*MMENGINE, 'mmdet>=3.3,<3.4', 'pycocotools'],
    # It imports ftfy and regex, and does not declare them.
    'mmseg': [*MMENGINE, 'ftfy', 'mmsegmentation>=1.2,<1.3', 'regex'],
    'onnx': ['onnx', 'onnxruntime', 'onnxscript'],
}
EXTRAS['all'] = sorted({name for names in EXTRAS.values() for name in names})
EXTRAS['tests'] = [
    line.partition('#')[0].strip()
    for line in (ROOT / 'requirements/tests.txt').read_text().splitlines()
]


class BuildKernels(build_ext):
    """Each file for its instruction set; where that fails, one line says so."""

    def build_extension(self, extension):
        try:
            for name, more in INSTRUCTION_SETS.items():
                extension.extra_objects += self.compiler.compile(
                    [f'{CSRC}/kernel_{name}.cpp'],
                    output_dir=self.build_temp,
                    extra_postargs=[*FLAGS, *more],
                )
            super().build_extension(extension)
        except Exception as error:
            if KERNEL_IS_NEEDED:
                raise
            print(f'fade_mm: no CPU kernel, since it cannot be built: {error}', file=sys.stderr)


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


setup(
    name='fade_mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'fade_mm/__init__.py').read_text())[1],
    description='FADE feature upsampling for PyTorch and OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['fade_mm', 'fade_mm.*']),
    package_data={'fade_mm': ['py.typed', 'papers/tables.yml']},
    python_requires='>=3.10',
    install_requires=['torch>=2.4'],
    extras_require=EXTRAS,
    ext_modules=[
        Extension(
            'fade_mm.ops.backend.cpu._kernels',
            [f'{CSRC}/bind.cpp'],
            depends=['setup.py', *sorted(map(str, Path(CSRC).iterdir()))],
            define_macros=[('Py_LIMITED_API', '0x030A0000')],  # Python 3.10's
            py_limited_api=True,
            extra_compile_args=FLAGS,
            optional=not KERNEL_IS_NEEDED,
        )
    ],
    entry_points={'console_scripts': ['fade-mm = fade_mm.cli:main']},
    cmdclass={'build_ext': BuildKernels, 'build_py': BuildPackage},
    options={'bdist_wheel': {'py_limited_api': 'cp310'}},
)
