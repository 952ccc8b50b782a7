"""What distributions hold and need, without building them; and the workflows that do."""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDERS = ['.github', 'configs', 'docs', 'examples', 'fade_mm', 'requirements', 'tests', 'tools']
FILES = [
    'CHANGELOG.md',
    'CITATION.cff',
    'CONTRIBUTING.md',
    'LICENSE',
    'MANIFEST.in',
    'Makefile',
    'README.md',
    'SECURITY.md',
    'model-index.yml',
    'pyproject.toml',
    'setup.py',
]


def copy_of_sources(tree):
    for name in FOLDERS:
        ignored = shutil.ignore_patterns('__pycache__', '*.so')
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, tree)


def test_a_source_distribution_made_without_torch_holds_all_files(tmp_path):
    tree, without_torch = tmp_path / 'tree', tmp_path / 'without_torch'
    copy_of_sources(tree)
    files = {str(x.relative_to(tree)) for x in tree.rglob('*') if x.is_file()}
    assert 'fade_mm/ops/backend/cpu/csrc/bind.cpp' in files
    (tree / 'fade_mm/ops/backend/cpu/_kernels.so').touch()
    without_torch.mkdir()
    (without_torch / 'torch.py').write_text('raise ImportError("it is hidden")')

    run = subprocess.run(
        [sys.executable, 'setup.py', '-q', 'sdist', '--dist-dir', tmp_path],
        cwd=tree,
        env=os.environ | {'PYTHONPATH': str(without_torch)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    (path,) = tmp_path.glob('*.tar.gz')
    with tarfile.open(path) as archive:
        members = {x.name.partition('/')[2] for x in archive if x.isfile()}
    assert files - members == set()
    assert 'fade_mm/ops/backend/cpu/_kernels.so' not in members


def test_a_wheel_has_what_mim_looks_for_and_finds_configs_there(tmp_path):
    tree, built = tmp_path / 'tree', tmp_path / 'built'
    copy_of_sources(tree)
    command = [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', built]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    inside = built / 'fade_mm/.mim'
    for name in ('configs', 'tools'):
        there = {x.relative_to(tree) for x in (tree / name).rglob('*') if x.is_file()}
        assert there == {x.relative_to(inside) for x in (inside / name).rglob('*') if x.is_file()}
    index = yaml.safe_load((inside / 'model-index.yml').read_text())
    assert all((inside / name).is_file() for name in index['Import'])

    program = 'from fade_mm import cli, shipped; cli.main(); print(shipped.root())'
    said = subprocess.run(
        [sys.executable, '-c', program],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(built)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith('usage: fade-mm')
    assert Path(said.splitlines()[-1]) == inside


def test_without_a_compiler_one_line_says_so(tmp_path):
    command = [sys.executable, 'setup.py', '-q', 'build_ext', '--build-lib', tmp_path / 'lib']
    run = subprocess.run(
        [*command, '--build-temp', tmp_path / 'objects'],
        cwd=ROOT,
        env=os.environ | {'CC': 'there-is-no-compiler', 'CXX': 'there-is-no-compiler'},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count('fade_mm: no CPU kernel, since it cannot be built: ') == 1
    assert list(tmp_path.rglob('*.so')) == []


WITH_TORCH_ALONE = [
    *(ROOT / 'fade_mm').glob('*.py'),
    *(ROOT / 'fade_mm/ops').rglob('*.py'),
    *(ROOT / 'fade_mm/upsamplers').rglob('*.py'),
]


def test_what_needs_torch_alone_is_written_for_python_3_10():
    """By its grammar here; by the names that it takes from the standard library below."""
    for file in WITH_TORCH_ALONE:
        ast.parse(file.read_text(), str(file), feature_version=(3, 10))


def test_it_takes_nothing_from_a_newer_standard_library():
    pytest.importorskip('vermin')
    command = [sys.executable, '-c', 'from vermin.main import main; main()', '-t=3.10-']
    run = subprocess.run([*command, *WITH_TORCH_ALONE], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize('name', ['tests', 'wheels'])
def test_workflows_are_such(name):
    pytest.importorskip('check_jsonschema')
    command = [sys.executable, '-m', 'check_jsonschema', '--builtin-schema']
    file = ROOT / f'.github/workflows/{name}.yml'
    run = subprocess.run(
        [*command, 'vendor.github-workflows', file], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
