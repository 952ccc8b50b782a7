"""The benchmarks measure what they say, on small sizes."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from fade_mm.upsamplers import UPSAMPLERS
from tests import definition
from tests.ops.test_gated_reassemble import make

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location('benchmark_ops', ROOT / 'tools/benchmark_ops.py')
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)
SMALL = ['--channels', '8', '--repeats', '2']


def test_the_unfolded_formulation_computes_the_operator():
    arguments = make(7, 9, 4, 5)
    torch.testing.assert_close(
        benchmark.unfolded(**arguments), definition.gated_reassemble(**arguments)
    )


def test_the_convolutions_are_those_of_the_layer():
    args = benchmark.parse_args([*SMALL, '--shape', '8', '6'])
    counted = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: counted.append(module) if isinstance(module, torch.nn.Conv2d) else None
    )
    try:
        convolutions = benchmark.subjects(args, (8, 6))[benchmark.CONVOLUTIONS, '']()
    finally:
        hook.remove()
    assert len(convolutions) == 3
    assert [tuple(conv.weight.shape) for conv in counted] == [
        (64, 8, 1, 1),  # compressor of en
        (25, 64, 3, 3),
        (64, 8, 1, 1),  # compressor of de
        (25, 64, 3, 3),
        (1, 8, 1, 1),  # gate
    ]


@pytest.mark.parametrize('backward', [[], ['--backward']], ids=['forward', 'backward'])
def test_json_has_every_subject_and_backend(backward, capsys):
    benchmark.main([*SMALL, *backward, '--shape', '7', '9', '--groups', '4', '--json'])
    report = json.loads(capsys.readouterr().out)
    found = {(row['subject'], row['backend']) for row in report['rows']}
    assert {
        ('FADE', 'cpu'),
        ('FADE', 'reference'),
        ('gated_reassemble', 'cpu'),
        ('gated_reassemble', 'reference'),
        ('FADE-Lite', 'cpu'),
        ('CARAFE', 'cpu'),
        ('FADE by group', 'cpu'),
        ('gated_reassemble by group', 'cpu'),
        ('FreqFusion', 'cpu'),
        ('bilinear', ''),
        (benchmark.UNFOLDED, ''),
    } <= found
    assert all(row['milliseconds'] > 0 for row in report['rows'])
    for row in report['rows']:
        by_group = row['subject'].endswith(' by group')
        assert row['groups'] == (4 if by_group else 1)
        assert (row['of_one_group'] is not None) == by_group
    assert set(report['rooflines']) == {'7x9'}


def test_the_table_and_the_plot_are_written(tmp_path, capsys):
    benchmark.main([*SMALL, '--sizes', '6', '9', '--plot', str(tmp_path / 'cost.png')])
    assert 'en 9x9' in capsys.readouterr().out
    assert (tmp_path / 'cost.png').stat().st_size > 1000


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--plot', 'x.png'], '--plot needs --sizes'),
        (['--channels', '0'], 'at least 1'),
        (['--channels', '12'], '--groups must divide --channels, got 8 and 12; --groups 1 leaves'),
        (['--device', 'nowhere'], '--device nowhere'),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_args(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_step_is_measured_on_every_backend(segmentation_root, tmp_path):
    """Of a stock upsampler and of FADE, on their own data."""
    configs = []
    for name in ('bilinear', 'fade'):
        base = ROOT / f'configs/segformer/segformer_mit-b0_{name}_1xb4-1500_camvid-256x256.py'
        data = dict(data_root=str(segmentation_root))
        lines = [
            f'_base_ = {str(base)!r}',
            'model = dict(backbone=dict(num_layers=[1, 1, 1, 1]))',
            f'train_dataloader = dict(batch_size=2, dataset={data})',
        ]
        configs.append(tmp_path / f'{name}.py')
        configs[-1].write_text('\n'.join(lines))
    command = [sys.executable, str(ROOT / 'tools/benchmark_train.py'), *configs, '--repeats', '1']
    out = subprocess.run([*command, '--profile'], capture_output=True, text=True, check=True).stdout
    assert re.search(r'bilinear\W+\d.*1\.00\W+\d+\W+1\.00', out)
    assert re.search(r'fade\W+cpu\W+\d', out)
    assert re.search(r'fade\W+reference\W+\d', out)
    profile = re.search(r'convolution\S*\W+([\d.]+)\W+([\d.]+)\W+([\d.]+)', out)
    assert min(map(float, profile.groups())) > 0  # of each subject


PUBLISHED = """
import json, sys
sys.path.insert(0, 'tools')
import torch
torch.compile = lambda function, **_: function  # compiling takes longer than all else
import benchmark_ops
benchmark_ops.main(
    ['--published', '--device', 'cpu', '--channels', '32', '--shape', '6', '8']
    + ['--repeats', '1', '--json', sys.argv[1]]
)
"""


def test_the_published_set_up_runs_with_torch_alone(tmp_path):
    """Every upsampler, form of the operator, precision and direction, as a table and as JSON."""
    file = tmp_path / 'gpu.json'
    command = [sys.executable, 'tests/torch_alone.py', '-c', PUBLISHED, str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert '(cpu)' in run.stdout
    report = json.loads(file.read_text())
    assert (report['device'], report['en'], report['de']) == (
        'cpu',
        [1, 32, 6, 8],
        [1, 32, 3, 4],
    )
    rows = report['rows']
    runs = {(row['dtype'], row['backward']) for row in rows}
    assert runs == set(product(('float32', 'float16', 'bfloat16'), (False, True)))
    single = [row for row in rows if row['dtype'] == 'float32']
    assert not [row for row in single if row['failed']]
    assert all(row['milliseconds'] > 0 for row in single)
    subjects = {row['subject'] for row in single}
    assert subjects > set(UPSAMPLERS)
    forms = subjects - set(UPSAMPLERS)
    assert forms >= {'gated_reassemble, cpu', 'gated_reassemble, reference'}
    assert len(forms) == 4
    for row in single:
        assert (row['of_bandwidth'] is not None) == (row['subject'] in forms)
    published = {row['subject']: row['published_milliseconds'] for row in single}
    assert (published['fade'], published['carafe'], published['nearest']) == (None,) * 3
    published = {x['subject']: x['published_milliseconds'] for x in single if not x['backward']}
    assert (published['fade'], published['carafe'], published['nearest']) == ('22.9', '12.6', None)


def test_the_operator_step_by_step_computes_the_same(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    import benchmark_published

    arguments = make(6, 8, 3, 4)
    torch.testing.assert_close(
        benchmark_published.by_steps(**arguments), definition.gated_reassemble(**arguments)
    )


def test_the_compile_report_has_a_row_for_each_kernel_and_tile(tmp_path, monkeypatch):
    """What the rows say is tested in tests/ops/test_triton.py; here, on one kernel."""
    pytest.importorskip('triton')
    program = (
        'import json, sys; from fade_mm.ops.backend.triton import report; '
        "print(json.dumps(list(report.rows(['sm_90', 'sm_80'], kernels=('backward_kernels',), "
        "dtypes=('float32',), processes=0))))"
    )
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program],
        env=os.environ | {'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert [(row['arch'], row['layout']) for row in rows] == list(
        product(('sm_90', 'sm_80'), ('contiguous', 'channels_last'))
    )
    for row in rows:
        assert list(row) == [
            *('kernel', 'layout', 'dtype', 'tile', 'arch', 'registers', 'spills', 'shared'),
            *('warps', 'load_bytes', 'store_bytes'),
        ]
        assert 0 < row['registers'] <= 128
        assert row['spills'] == 0
        assert row['warps'] >= 16
        # 25 logits with channels last are no multiple of 16 bytes
        width = 16 if row['layout'] == 'contiguous' else 4
        assert row['load_bytes'] == row['store_bytes'] == width


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--compile-for', '90'], '--compile-for takes architectures as sm_90, got 90'),
        (['--tune', '--device', 'cpu'], '--tune needs a GPU'),
        (['--tune', '--published'], 'not allowed with'),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_args(arguments)
    assert message in capsys.readouterr().err


SASS = """
.L_x_1:
        /*0010*/  LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/  LDG.E R5, desc[UR4][R2.64] ;
        /*0030*/  LDG.E R5, desc[UR4][R2.64] ;
        /*0040*/  @P0 BRA `(.L_x_1) ;
        /*0050*/  STG.E.U16 desc[UR4][R2.64], R4 ;
        /*0060*/  BRA `(.L_x_2) ;
.L_x_2:
"""


def test_widths_are_read_from_the_loops():
    from fade_mm.ops.backend.triton import report

    code = SASS.splitlines()
    loops = report._in_loops(code)
    assert sum('LDG' in line for line in loops) == 3
    assert report._width('LDG', loops) == 16
    assert report._width('STG', loops) == 0
    assert report._width('STG', code) == 2


@pytest.mark.parametrize(
    ('capability', 'warps', 'registers', 'shared', 'resident'),
    [(90, 4, 128, 1024, 16), (90, 4, 32, 0, 64), (90, 8, 255, 0, 8), (80, 4, 64, 60 * 1024, 8)],
)
def test_resident_warps_by_the_rules_of_the_hardware(
    capability, warps, registers, shared, resident
):
    from fade_mm.ops.backend.triton import report

    assert report.resident_warps(capability, warps, registers, shared) == resident
