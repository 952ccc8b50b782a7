"""Layers import, build, run, train, compile and export where there is torch and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import sys
import torch
from fade_mm.ops.decomposition import decompose
from fade_mm.upsamplers import FADE, UPSAMPLERS, build_upsampler
from tests.layers import EVERY
for cfg in EVERY:
    up = build_upsampler(cfg, 8, 8).eval()
    en, de = torch.rand(2, 8, 7, 9), torch.rand(2, 8, 4, 5, requires_grad=True)
    up(en, de).sum().backward()
    assert de.grad.any(), cfg
for cfg in EVERY[::4]:
    up = build_upsampler(cfg, 8, 8).eval()
    compiled = torch.compile(up, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(en, de), up(en, de))
    program = decompose(torch.export.export(up, (en, de.detach())))
    torch.testing.assert_close(program.module()(en, de), up(en, de))
loaded = {name.partition('.')[0] for name in sys.modules}
assert not loaded & {'numpy', 'cv2', 'yaml', 'matplotlib', 'rich', 'scipy', 'mmengine', 'mmcv'}
print(len(EVERY))
"""


def alone(*arguments):
    command = [sys.executable, 'tests/torch_alone.py', *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_torch_alone_is_enough():
    assert int(alone('-c', PROGRAM)) > 20


OLD = """
import torch
del torch.library.custom_op
try:
    import fade_mm.upsamplers
except ImportError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_torch_that_is_too_old_is_told_which_is_needed():
    assert "pip install 'torch>=2.4'" in alone('-c', OLD)


@pytest.mark.slow
@pytest.mark.parametrize('folder', ['tests/ops', 'tests/upsamplers'])
def test_the_tests_run_there(folder):
    assert '[100%]' in alone('-m', 'pytest', '-q', '-m', 'not slow', folder)
