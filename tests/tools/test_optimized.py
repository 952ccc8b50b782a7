"""The tools under ``python -OO``, which takes docstrings and assertions out."""

import re
import subprocess
import sys

import pytest

from tests.tools import CAMVID, ROOT, camvid_options, config

PART = ROOT / 'tools/benchmark_published.py'  # of benchmark_ops.py
TOOLS = sorted({*(ROOT / 'tools').rglob('*.py')} - {PART})
EACH = """
import runpy, sys
for path in sys.argv[1:]:
    sys.argv[1:] = ['--help']
    try:
        runpy.run_path(path, run_name='__main__')
    except SystemExit as stop:
        if stop.code:
            raise
"""
TRAIN_AND_TEST = """
import sys
from tests.tools import run
cfg, work, *options = sys.argv[1:]
options = '--work-dir', work, '--cfg-options', *options
run('train', cfg, *options)
run('test', cfg, f'{work}/iter_1.pth', *options)
run('train', cfg, *options, 'model.decode_head.type=SegFormerHead')
"""


def optimized(*arguments):
    """What a Python process prints; beside its errors, if it fails."""
    command = [sys.executable, '-OO', '-W', 'ignore', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert 'Traceback' not in done.stderr, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_a_data_set_is_made(tmp_path):
    optimized(ROOT / 'tools/dataset_converters/make_shapes.py', tmp_path / 'shapes', '--images', 2)
    assert len(list((tmp_path / 'shapes/images').rglob('*.jpg'))) == 3


@pytest.mark.slow
def test_every_tool_starts():
    assert optimized('-c', EACH, *TOOLS).count('usage: ') == len(TOOLS) > 10


@pytest.mark.slow
def test_a_model_is_trained_and_tested(segmentation_root, tmp_path):
    """And a wrong config is one line still."""
    options = list(camvid_options(segmentation_root, iterations=1))
    printed = optimized('-c', TRAIN_AND_TEST, config(CAMVID, 'fade'), tmp_path, *options)
    assert 'mBIoU' in printed
    assert re.search(r"error: .*'SegFormerHead'; there is .*SegformerHead", printed)
