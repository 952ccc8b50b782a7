"""With one host library alone, the rest works, and asking for the other says what to install."""

import subprocess
import sys

import pytest

from tests.tools import ROOT

PROGRAM = """
import importlib.machinery, sys

Finder = importlib.machinery.PathFinder
find = Finder.find_spec
blocked = {blocked!r}
Finder.find_spec = lambda name, *a: (
    None if {{name, name.split('.')[0]}} & blocked else find(name, *a)
)
import torch

{program}
"""

OPERATOR = """
from fade_mm.upsamplers import FADE
assert FADE(4)(torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)).shape == (1, 4, 8, 8)
import fade_mm.evaluation, fade_mm.run
"""

MISSING = """
from mmengine.registry import MODELS
try:
    MODELS.build(dict(type='fade_mm.{name}'))
except ImportError as error:
    assert 'fade_mm.{name} needs {library}' in str(error), error
    assert 'pip install {package}' in str(error), error
else:
    raise SystemExit('built without its library')
"""

FPN = """
from mmengine.registry import MODELS
neck = MODELS.build(dict(type='fade_mm.FPN', in_channels=[4, 8], out_channels=8, num_outs=2,
                         upsample_cfg=dict(type='fade')))
assert neck((torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)))[0].shape == (1, 8, 8, 8)
"""

HEAD = """
from mmengine.registry import MODELS
head = MODELS.build(dict(type='fade_mm.SegformerHead', in_channels=[4, 8], in_index=[0, 1],
                         channels=8, num_classes=3, upsample_cfg=dict(type='fade')))
assert head((torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4))).shape == (2, 3, 8, 8)
"""


TABLES = """
import contextlib, io, json, pathlib, runpy
from fade_mm.papers import tables

rows = [row for row in tables.read_rows()
        if (row.host, row.upsampler) in [('SegFormer-B1', 'FADE'), ('Faster R-CNN R50', 'Nearest')]]
for row in rows:
    row.shape = (64, 64)
tables.read_rows = lambda: rows

def printed(*arguments):
    sys.argv = ['tools/paper_tables.py', *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(sys.argv[0], run_name='__main__')
    return out.getvalue()

counted = [row['host'] for row in json.loads(printed('--format', 'json')) if row['params']]
assert counted == ['{counted}'], counted
assert '{reason}' in printed(), printed()
"""


def run(blocked, *programs):
    program = PROGRAM.format(blocked=set(blocked), program='\n'.join(programs))
    return subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ('blocked', 'programs'),
    [
        (
            ['mmseg'],
            [
                OPERATOR,
                FPN,
                MISSING.format(name='SegformerHead', library='mmseg', package='mmsegmentation'),
                MISSING.format(name='BTSHead', library='mmseg', package='mmsegmentation ftfy'),
                TABLES.format(counted='Faster R-CNN R50', reason='1. the model cannot be built'),
            ],
        ),
        (
            ['mmdet'],
            [
                OPERATOR,
                HEAD,
                MISSING.format(name='FPN', library='mmdet', package='mmdet'),
                TABLES.format(counted='SegFormer-B1', reason='run: pip install mmdet'),
                MISSING.format(
                    name='MaskFormerHead', library='mmdet and mmseg', package='mmdet mmsegmentation'
                ),
            ],
        ),
        (
            ['mmdet', 'mmseg'],
            [OPERATOR, MISSING.format(name='UPerHead', library='mmseg', package='mmsegmentation')],
        ),
        (
            ['ftfy'],
            [
                OPERATOR,
                FPN,
                MISSING.format(name='SegFPN', library='mmseg', package='mmsegmentation ftfy regex'),
            ],
        ),
        (
            ['mmcv._ext'],  # mmcv-lite
            [OPERATOR, MISSING.format(name='FPN', library='mmdet', package='--no-build-isolation')],
        ),
    ],
    ids=['without-mmseg', 'without-mmdet', 'without-both', 'without-ftfy', 'mmcv-lite'],
)
def test_the_rest_works(blocked, programs):
    done = run(blocked, *programs)
    assert done.returncode == 0, done.stderr


def test_the_operator_needs_torch_alone():
    done = run(
        ['mmengine', 'mmcv', 'mmdet', 'mmseg'],
        'from fade_mm.ops import reassemble',
        'assert reassemble(torch.ones(1, 2, 3, 3), torch.ones(1, 1, 6, 6)).sum() == 72',
    )
    assert done.returncode == 0, done.stderr
