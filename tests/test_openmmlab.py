"""What is said where OpenMMLab's libraries are missing, or do not run."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
THEIRS = ['analysis', 'engine', 'evaluation', 'hosts', 'metrics', 'models', 'papers', 'registry']
THEIRS += ['run', 'visualization', 'hosts.stand_ins', 'analysis.flops', 'run.config']
WITHOUT_MMENGINE = f"""
import importlib
for name in {THEIRS}:
    try:
        importlib.import_module('fade_mm.' + name)
    except ImportError as error:
        print(error)
"""
OTHER_PYTHON = """
import importlib
import sys
import mmengine.runner  # as if it ran there
sys.version_info = (3, 13, 0, 'final', 0)
import torch
from mmengine.registry import MODELS
from fade_mm import FADE
print(FADE(8)(torch.rand(1, 8, 7, 9), torch.rand(1, 8, 4, 5)).shape[2:])
for module in ('fade_mm.hosts', 'fade_mm.run', 'fade_mm.models'):
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(error)
try:
    MODELS.build(dict(type='fade_mm.FPN'))
except ImportError as error:
    print(error)
"""


def output_of(*arguments):
    run = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_without_openmmlab_one_line_says_what_to_type():
    lines = output_of('tests/torch_alone.py', '-c', WITHOUT_MMENGINE).splitlines()
    assert len(lines) == len(THEIRS)
    for line in lines:
        assert "mmengine cannot be imported (No module named 'mmengine'); run: pip install" in line
        assert 'mmsegmentation' in line  # in what is installed; without fade_mm, the extra
        assert "--no-build-isolation 'mmcv" in line


@pytest.mark.slow
def test_another_python_has_the_layers_and_is_told_so():
    pytest.importorskip('mmengine')
    layer, *lines = output_of('-W', 'ignore', '-c', OTHER_PYTHON).splitlines()
    assert layer == 'torch.Size([7, 9])'
    assert len(lines) == 4
    assert {x.partition('; ')[0] for x in lines} == {
        "OpenMMLab's side of fade_mm needs Python 3.11 or 3.12, this is 3.13"
    }


def test_the_names_of_the_package_are_its_layers():
    import fade_mm
    from fade_mm import upsamplers

    layers = [x for x in upsamplers.UPSAMPLERS.values() if inspect.isclass(x)]
    published = {x.__name__ for x in layers if not x.__module__.endswith(('stock', 'depthwise'))}
    assert set(fade_mm.__all__) == {*published, 'build_upsampler'}
    for name in fade_mm.__all__:
        assert getattr(fade_mm, name) is getattr(upsamplers, name)
        assert name in dir(fade_mm)
    with pytest.raises(AttributeError, match='no attribute'):
        getattr(fade_mm, 'FADEs')  # noqa: B009


def test_importing_the_package_imports_nothing_else():
    code = 'import sys, fade_mm; print([x for x in sys.modules if x[:5] in ("torch", "fade_")])'
    assert output_of('-c', code).strip() == "['fade_mm']"
