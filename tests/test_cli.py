"""``fade-mm``: every tool by one name, and what it says where something is missing."""

import argparse
import shlex
import subprocess
import sys
from unittest import mock

import pytest

from fade_mm import cli, shipped
from tests.test_torch_alone import alone

TOOLS = shipped.root() / 'tools'


class ParsedError(Exception):
    """A tool has read its arguments, and would start."""


@pytest.fixture(autouse=True)
def main_module_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, '__main__', sys.modules['__main__'])
    monkeypatch.setattr(sys, 'path', [*sys.path])


def call(command, *arguments):
    with mock.patch.object(sys, 'argv', ['fade-mm', command, *arguments]):
        cli.main()


def test_every_tool_is_a_command():
    tools = {path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob('*.py')}
    assert tools - set(cli.COMMANDS.values()) == {
        'benchmark_published.py',  # what benchmark_ops.py runs
        'make_metafiles.py',  # for whoever changes fade_mm
    }


def test_alone_it_lists_the_commands_at_once():
    program = (
        "import sys; from fade_mm import cli; sys.argv = ['fade-mm']; cli.main(); "
        "assert not {'torch', 'mmengine', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True
    )
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith('  ')]
    assert listed == list(cli.COMMANDS)


@pytest.mark.parametrize(
    ('wrong', 'meant'), [('trian', 'train'), ('flop', 'flops'), ('image_demo', 'image-demo')]
)
def test_a_wrong_command_is_answered_with_the_nearest(wrong, meant):
    with pytest.raises(SystemExit, match=f"no command '{wrong}'; the nearest is {meant}$"):
        call(wrong)
    with pytest.raises(SystemExit, match=r'no command .*; there are train, test, '):
        call('nonsense')


@pytest.mark.parametrize('command', cli.COMMANDS)
def test_help_has_an_example_that_is_understood(command, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        call(command, '--help')
    said = capsys.readouterr().out
    assert said.startswith(f'usage: fade-mm {command} ')
    examples = said.partition('for example:\n')[2].splitlines()
    assert examples

    def parse_only(parser, argv=None, namespace=None):
        parser.parse_known_args(argv, namespace)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_only)
    for example in examples:
        program, name, *arguments = shlex.split(example.partition('>')[0])
        assert (program, name) == ('fade-mm', command)
        with pytest.raises(ParsedError):
            call(command, *arguments)


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rich.console', None)
    with pytest.raises(SystemExit, match=r'rich is not installed; run: pip install rich$'):
        call('benchmark')
    monkeypatch.setitem(sys.modules, 'cv2', None)
    message = r'cv2 is not installed; run: pip install opencv-python pycocotools rich$'
    with pytest.raises(SystemExit, match=message):
        call('make-shapes', 'x')
    with pytest.raises(SystemExit, match=r'cv2 is not installed; run: pip install opencv-python$'):
        call('image-demo', 'x')


@pytest.mark.slow
@pytest.mark.parametrize('command', [x for x in cli.COMMANDS if x not in ('benchmark', 'env')])
def test_without_any_library_help_says_what_it_is_and_what_to_type(command):
    program = (
        f'import sys; from fade_mm import cli; sys.argv[1:] = {[command, "--help"]}; cli.main()'
    )
    arguments = [sys.executable, 'tests/torch_alone.py', '-c', program]
    done = subprocess.run(arguments, cwd=shipped.root(), capture_output=True, text=True)
    assert done.stdout.startswith(cli.purpose(cli.COMMANDS[command]))
    error = done.stderr.splitlines()[-1]
    assert error.startswith(f'error: fade-mm {command}: ')
    assert 'Traceback' not in done.stderr
    if command in cli._ALONE:
        assert 'mm' not in error.partition('; run: ')[2]
    else:
        assert 'mmengine cannot be imported' in error
        assert 'run: pip install' in error
        assert "--no-build-isolation 'mmcv" in error


def test_env_needs_torch_alone():
    said = alone('-c', "import sys; from fade_mm import cli; sys.argv = ['', 'env']; cli.main()")
    for start in ('fade_mm ', 'Python ', 'CPU ', '  torch '):
        assert f'\n{start}' in f'\n{said}'
    assert 'mmcv is not installed' in said


def test_env_says_what_computes_and_why_not_another(capsys, monkeypatch):
    from fade_mm.ops.backend import cpu

    monkeypatch.setenv('TRITON_INTERPRET', '0')
    call('env')
    said = capsys.readouterr().out
    assert '  cpu    float16    reference\n' in said
    assert 'not cpu for cpu float16: it computes in float32' in said
    assert 'not triton for cpu float32' in said
    monkeypatch.setattr(cpu, 'why_not', lambda *_: 'no compiler was there')
    call('env')
    said = capsys.readouterr().out
    assert '  cpu    float32    reference\n' in said
    assert 'not cpu for cpu float32, cpu float64, cpu bfloat16, cpu float16: no compiler' in said
