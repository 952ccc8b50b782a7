"""A wheel, installed where there is torch and nothing else, far from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from .torch_alone import required

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

LAYERS = """
import sys
import warnings
import torch  # itself warns of the absence of numpy
warnings.simplefilter('error')
import fade_mm
from fade_mm import build_upsampler
from fade_mm.ops import backends, use_backend

torch.manual_seed(0)
en, de = torch.randn(2, 64, 14, 14), torch.randn(2, 64, 7, 7)
assert backends(en, de)['cpu'] is None, backends(en, de)  # the kernel, not what stands in for it
for name in set(fade_mm.__all__) - {'build_upsampler'}:
    assert getattr(fade_mm, name)(64)(en, de).shape == en.shape, name
up = build_upsampler(dict(type='fade'), 64, 64)
found = []
for name in ('cpu', 'reference'):
    with use_backend(name):
        y = up(en, de)
        found.append([y, *torch.autograd.grad(y.square().sum(), list(up.parameters()))])
for ours, theirs in zip(*found):
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    assert ours.abs().sum() > 0
absent = {'numpy', 'cv2', 'mmengine', 'mmcv', 'mmdet', 'mmseg'}
assert not absent & {name.partition('.')[0] for name in sys.modules}
print(fade_mm.__file__)
"""
PROGRAMS = {
    'layers': ['-c', LAYERS],
    'env': ['-m', 'fade_mm', 'env'],
    'commands': ['-m', 'fade_mm'],
}


def run(command, **options):
    process = subprocess.run(command, capture_output=True, text=True, **options)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The folder of a source distribution and of the wheel that was built from it."""
    pytest.importorskip('build')
    folder = tmp_path_factory.mktemp('built')
    tree = folder / 'tree'
    ignored = shutil.ignore_patterns(
        '.*', '__pycache__', '*.so', 'build', 'dist', 'work_dirs', '*.egg-info'
    )
    shutil.copytree(ROOT, tree, ignore=ignored)
    command = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder, tree]
    run(command, env=os.environ | {'FADE_MM_NEEDS_KERNEL': '1'})
    return folder


@pytest.fixture(scope='module')
def installed(built, tmp_path_factory):
    """The Python of an environment with torch, what that requires, and the wheel."""
    folder = tmp_path_factory.mktemp('installed')
    run([sys.executable, '-m', 'venv', '--without-pip', folder / 'venv'])
    python = folder / 'venv/bin/python'
    (site,) = (folder / 'venv').glob('lib/python*/site-packages')
    for name in required('torch'):
        try:
            files = distribution(name).files
        except PackageNotFoundError:  # for another platform
            continue
        for top in {x.parts[0] for x in files if x.parts[0] not in ('..', '__pycache__')}:
            (site / top).symlink_to(distribution(name).locate_file(top))
    (wheel,) = built.glob('*.whl')
    # What else a wheel required would have to be looked for, which it may not.
    run([sys.executable, '-m', 'pip', '--python', python, 'install', '--no-index', wheel])
    return python


@pytest.mark.parametrize('name', PROGRAMS)
def test_it_works_with_torch_alone(name, installed, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('PYTHON', 'FADE_MM'))}
    out = run([installed, *PROGRAMS[name]], cwd=tmp_path, env=environment)
    if name == 'layers':
        assert Path(out.strip()).is_relative_to(installed.parents[1])


def test_what_it_holds_and_requires(built):
    (path,) = built.glob('*.whl')
    assert '-cp310-abi3-' in path.name
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (metadata,) = (x for x in names if x.endswith('.dist-info/METADATA'))
        fields = Parser().parsestr(wheel.read(metadata).decode())
    folder = 'fade_mm/ops/backend/cpu'
    assert f'{folder}/_kernels.abi3.so' in names
    assert {'fade_mm/py.typed', 'fade_mm/papers/tables.yml'} <= set(names)
    assert fields['Requires-Python'] == '>=3.10'
    required = fields.get_all('Requires-Dist')
    assert [x for x in required if 'extra ==' not in x] == ['torch>=2.4']
    assert {'mmdet', 'mmseg', 'onnx', 'all'} <= set(fields.get_all('Provides-Extra'))
    assert not any(x.startswith('mmcv') for x in required)
