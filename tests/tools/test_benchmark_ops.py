"""The benchmark measures what it says, on small sizes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from tests import definition
from tests.ops.test_gated_reassemble import make

TOOL = Path(__file__).parents[2] / 'tools/benchmark_ops.py'
spec = importlib.util.spec_from_file_location('benchmark_ops', TOOL)
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
        functions = benchmark.subjects(args, (8, 6))
        convolutions = functions[benchmark.CONVOLUTIONS, '']()
        n = len(counted)
        functions['FADE', 'cpu']()
    finally:
        hook.remove()
    assert len(convolutions) == 3
    assert 0 < n == len(counted) - n


@pytest.mark.parametrize('backward', [[], ['--backward']], ids=['forward', 'backward'])
def test_json_has_every_subject_and_backend(backward, capsys):
    benchmark.main([*SMALL, *backward, '--shape', '7', '9', '--json'])
    report = json.loads(capsys.readouterr().out)
    found = {(row['subject'], row['backend']) for row in report['rows']}
    assert {
        ('FADE', 'cpu'),
        ('FADE', 'reference'),
        ('gated_reassemble', 'cpu'),
        ('gated_reassemble', 'reference'),
        ('FADE-Lite', 'cpu'),
        ('CARAFE', 'cpu'),
        ('bilinear', ''),
        (benchmark.UNFOLDED, ''),
    } <= found
    assert all(row['milliseconds'] > 0 for row in report['rows'])
    assert set(report['rooflines']) == {'7x9'}


def test_the_table_and_the_plot_are_written(tmp_path, capsys):
    benchmark.main([*SMALL, '--sizes', '6', '9', '--plot', str(tmp_path / 'cost.png')])
    assert 'en 9x9' in capsys.readouterr().out
    assert (tmp_path / 'cost.png').stat().st_size > 1000


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='Linux only')
def test_peak_memory_counts_what_is_made_and_dropped():
    def function():
        return torch.ones(8, 2**20) + torch.ones(8, 2**20)  # two operands beside the result

    extra = benchmark.extra_memory(function, 'cpu')
    assert 60 * benchmark.MiB < extra < 80 * benchmark.MiB


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--plot', 'x.png'], '--plot needs --sizes'),
        (['--channels', '0'], 'at least 1'),
        (['--device', 'nowhere'], '--device nowhere'),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_args(arguments)
    assert message in capsys.readouterr().err
