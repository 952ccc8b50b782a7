"""More than one process, on a CPU."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.run.test_resume import assert_same_state, log, workers
from tests.tools import CAMVID, ROOT, camvid_options, config


def free_port():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        return str(taken.getsockname()[1])


def dist(tool, *arguments):
    environment = os.environ | dict(PYTHON=sys.executable, PORT=free_port(), OMP_NUM_THREADS='1')
    command = [ROOT / f'tools/dist_{tool}.sh', *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def metrics(work_dir):
    """What the first process wrote; each further one must have a file of its own."""
    (path,) = (x for x in work_dir.glob('*/2*.json') if 'rank' not in x.name)
    return json.loads(path.read_text())


@pytest.mark.slow
def test_two_processes_train_and_score_what_one_scores(segmentation_root, tmp_path):
    cfg, work = config(CAMVID, 'fade'), tmp_path / 'work'
    options = list(camvid_options(segmentation_root, iterations=2))
    dist('train', cfg, 2, '--work-dir', work, '--cfg-options', *options)
    checkpoint = work / 'iter_2.pth'
    for processes in (1, 2):
        dist(
            'test', cfg, checkpoint, processes, '--work-dir', tmp_path / f'test{processes}',
            '--cfg-options', *options,
        )  # fmt: skip
    assert len(list((tmp_path / 'test2').glob('*/*.rank1.json'))) == 1
    one, two = (metrics(tmp_path / f'test{processes}') for processes in (1, 2))
    for name in ('mIoU', 'mBIoU', 'aAcc'):
        assert one[name] == two[name]


@pytest.mark.parametrize('diff_rank_seed', [True, False])
@pytest.mark.slow
def test_two_processes_resume_exactly(diff_rank_seed, segmentation_root, tmp_path):
    """Each draws what it drew before; another number of processes is said to be inexact."""
    cfg = config(CAMVID, 'fade')
    options = [
        *camvid_options(
            segmentation_root, **{'randomness.diff_rank_seed': diff_rank_seed, 'randomness.seed': 5}
        ),
        *workers(1),
    ]
    dist('train', cfg, 2, '--work-dir', tmp_path / 'whole', '--cfg-options', *options)
    resume = ['--resume', tmp_path / 'whole/iter_2.pth', '--cfg-options', *options]
    dist('train', cfg, 2, '--work-dir', tmp_path / 'parts', *resume)
    assert_same_state(tmp_path / 'whole/iter_4.pth', tmp_path / 'parts/iter_4.pth')
    assert 'not exact' not in log(tmp_path / 'parts')
    dist('train', cfg, 1, '--work-dir', tmp_path / 'one', *resume)
    assert 'Resuming is not exact: 2 processes before, 1 now.' in log(tmp_path / 'one')


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_scripts_say_how_they_are_used(script):
    done = subprocess.run([ROOT / f'tools/{script}.sh'], capture_output=True, text=True)
    assert done.returncode == 2
    assert 'usage: ' in done.stderr
    assert f'tools/{script}.sh' in done.stderr
