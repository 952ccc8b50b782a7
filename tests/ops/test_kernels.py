"""The compiled file of the CPU kernel: it knows nothing of torch, and so serves every release."""

import re
import shutil
import subprocess
import sys

import pytest

from fade_mm.ops.backend import cpu

pytestmark = pytest.mark.skipif(not cpu.is_built(), reason='the CPU kernel is not built')

# Nearest-neighbour upsampling of 5 x 7 points to 10 x 14: kernels of one tap, on three threads.
PROGRAM = """
import importlib.util, sys
from array import array
spec = importlib.util.spec_from_file_location('_kernels', sys.argv[1])
kernels = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernels)
de, logits, out = array('f', range(35)), array('f', [0] * 140), array('f', [-1] * 140)
view = lambda x, row: (x.buffer_info()[0], 0, (len(x), len(x), row, 1))
sizes = 1, 1, 5, 7, 10, 14, 1, 2, True
kernels.forward(3, sizes, view(de, 7), view(logits, 14), None, None, None, view(out, 14))
assert list(out) == [de[i // 2 * 7 + j // 2] for i in range(10) for j in range(14)], out
assert not any(x.partition('.')[0] == 'torch' for x in sys.modules)
for wrong in ((3, sizes[:8]), ('3', sizes), (3, sizes, (1, 0, (1, 2, 3)))):
    try:
        kernels.forward(*wrong, *[None] * (8 - len(wrong)))
    except TypeError:
        continue
    raise AssertionError(wrong)
"""


def test_it_needs_no_symbol_of_torch():
    if not shutil.which('nm'):
        pytest.skip('there is no nm')
    option = '-u' if sys.platform == 'darwin' else '-Du'
    symbols = subprocess.check_output(['nm', option, cpu._kernels.__file__], text=True)
    assert 'PyTuple_GetItem' in symbols
    assert re.findall(r'.*(?:c10|N2at|torch|THP|pybind).*', symbols) == []


def test_it_is_for_every_python():
    assert cpu._kernels.__file__.endswith('.abi3.so')


def test_it_runs_without_torch_on_threads_of_its_own():
    command = [sys.executable, '-I', '-c', PROGRAM, cpu._kernels.__file__]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(sys.platform != 'linux', reason='there, no OpenMP is used')
def test_it_brings_no_second_pool_of_threads():
    """PyTorch's is used, which is found by name when the kernel is loaded."""
    if not shutil.which('readelf'):
        pytest.skip('there is no readelf')
    command = ['readelf', '-d', '--wide', cpu._kernels.__file__]
    assert 'omp' not in subprocess.check_output(command, text=True)
