"""The benchmarks measure what they say, on small sizes."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r'bilinear\W+\d.*1\.00\W+\d+\W+1\.00', out)
    assert re.search(r'fade\W+cpu\W+\d', out)
    assert re.search(r'fade\W+reference\W+\d', out)
