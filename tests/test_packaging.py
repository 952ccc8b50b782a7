"""What a source distribution holds: everything, since the CPU kernel is built from it."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ['configs', 'docs', 'fade_mm', 'requirements', 'tests', 'tools']
FILES = [
    'CHANGELOG.md',
    'CITATION.cff',
    'CONTRIBUTING.md',
    'LICENSE',
    'MANIFEST.in',
    'Makefile',
    'README.md',
    'SECURITY.md',
    'pyproject.toml',
    'setup.py',
]


def test_a_source_distribution_made_without_torch_holds_all_files(tmp_path):
    """As ``python -m build`` makes it, where setuptools does not know of the C++ sources."""
    tree, without_torch = tmp_path / 'tree', tmp_path / 'without_torch'
    for name in FOLDERS:
        ignored = shutil.ignore_patterns('__pycache__', '*.so')
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    files = {str(x.relative_to(tree)) for x in tree.rglob('*') if x.is_file()}
    assert 'fade_mm/ops/backend/cpu/csrc/bind.cpp' in files
    (tree / 'fade_mm/ops/backend/cpu/_kernel.so').touch()
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
    assert 'no CPU kernel, since torch cannot be imported: it is hidden' in run.stderr
    (path,) = tmp_path.glob('*.tar.gz')
    with tarfile.open(path) as archive:
        members = {x.name.partition('/')[2] for x in archive if x.isfile()}
    assert files - members == set()
    assert 'fade_mm/ops/backend/cpu/_kernel.so' not in members
