"""Freed memory stays with a process that says so, and with its children; a call's is counted."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fade_mm import memory
from fade_mm.memory import keep_freed_memory, peak_memory

SCRIPT = """
import os, resource, sys
import torch
from fade_mm.memory import keep_freed_memory

if sys.argv[1] == 'keep':
    assert keep_freed_memory()


def new_pages():
    for _ in range(20):  # until small things have found their places between
        torch.ones(1 << 24)  # 64 MiB, freed at once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or print(new_pages()))
print(new_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc')
@pytest.mark.parametrize('mode', ['keep', 'return'])
def test_pages_are_cleared_once(mode):
    """Each 64 MiB block is 32 huge pages or 16,384 small ones."""
    command = [sys.executable, '-c', SCRIPT, mode]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    child, parent = map(int, done.stdout.split())
    for pages in (child, parent):
        assert pages < 32 if mode == 'keep' else pages >= 4 * 32


def test_elsewhere_it_says_so(monkeypatch):
    monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
    assert not keep_freed_memory()


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='Linux only')
def test_peak_memory_counts_what_is_made_and_dropped():
    def function():
        return torch.ones(32, 2**20) + torch.ones(32, 2**20)  # two operands beside the result

    operand = 128 * 2**20
    assert 1.5 * operand < peak_memory(function) < 2.5 * operand


def test_available_memory_is_the_system_s_or_the_container_s(monkeypatch, tmp_path):
    if platform.system() != 'Linux':
        pytest.skip('only Linux says it in /proc')
    monkeypatch.setattr(memory, '_GROUP', tmp_path)  # no limit
    alone = memory.available_memory(torch.device('cpu'))
    assert 2**26 < alone < 2**50
    for name, content in (('max', 3_000_000), ('current', 2_500_000)):
        (tmp_path / f'memory.{name}').write_text(f'{content}\n')
    (tmp_path / 'memory.stat').write_text('anon 2000000\nfile 400000\n')
    assert memory.available_memory(torch.device('cpu')) == 900_000
    (tmp_path / 'memory.max').write_text('max\n')
    assert memory.available_memory(torch.device('cpu')) > 2**26
    assert memory.available_memory(torch.device('meta')) is None
