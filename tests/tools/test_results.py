"""What `tools/train.py` and `tools/test.py` leave, and `tools/results.py`."""

import datetime
import hashlib
import json
import subprocess

import pytest
import torch
import yaml

from fade_mm import __version__
from fade_mm.run import ResultHook, result_hook
from fade_mm.run.results import FIELDS, check_entry, dump, read_runs
from tests.tools import BCCD, CAMVID, ROOT, bccd_options, camvid_options, config, run


def read(path):
    """The entry that a run has left, which fits the schema."""
    entry = yaml.safe_load(path.read_text(encoding='utf-8'))
    assert list(entry) == list(FIELDS)
    check_entry(entry, str(path))
    return entry


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scalars(work):
    """The validations' metrics by step, as mmengine has written them."""
    content = next(work.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return {line['step']: line for line in map(json.loads, content) if 'mBIoU' in line}


@pytest.mark.slow
def test_training_and_testing_leave_entries(segmentation_root, tmp_path):
    cfg, work = config(CAMVID, 'fade'), tmp_path / 'work'
    options = [
        *camvid_options(segmentation_root, **{'train_cfg.val_interval': 2}),
        'randomness.seed=7',
    ]
    run('train', cfg, '--work-dir', work, '--cfg-options', *options)
    entry, logged = read(work / 'result.yml'), scalars(work)
    expected = dict(
        task='segmentation',
        data='CamVid',
        host='SegFormer MiT-B0',
        upsampler='FADE',
        seed=7,
        config=CAMVID.format('fade'),
        budget='4 iterations',
        threads=torch.get_num_threads(),
        date=datetime.date.today(),
        torch=torch.__version__,
        checkpoint_sha256=sha256(work / 'iter_4.pth'),
        note=None,
    )
    assert {name: entry[name] for name in expected} == expected
    assert entry['machine']
    assert list(entry['curve']) == [2]
    for name in ('mIoU', 'mBIoU', 'aAcc'):
        assert entry['scores'][name] == pytest.approx(logged[4][name], abs=1e-4)
        assert entry['curve'][2][name] == pytest.approx(logged[2][name], abs=1e-4)
    added = ['upsamplers/fixed', 'upsamplers/kernels.variation']
    assert [name for name in entry['scores'] if 'upsamplers' in name] == added  # of the last look
    assert not any('upsamplers' in name for name in entry['curve'][2])  # no look at that time
    assert entry['options']['train_cfg.max_iters'] == 4
    assert str(tmp_path) not in (work / 'result.yml').read_text()

    test = tmp_path / 'test'
    arguments = ['test', cfg, work / 'iter_2.pth', '--work-dir', test]
    run(*arguments, '--cfg-options', *options)
    tested = read(test / 'test_result.yml')
    own = dict(
        scores=entry['curve'][2],
        curve={},
        budget='2 iterations',
        checkpoint_sha256=sha256(work / 'iter_2.pth'),
    )
    assert tested == {**entry, **own}
    run(*arguments, '--tta', '--cfg-options', *options)
    assert read(test / 'test_result.yml')['note'] == 'test-time augmentation'


@pytest.mark.slow
def test_a_resumed_run_keeps_the_scores_before_it(segmentation_root, tmp_path):
    cfg, work = config(CAMVID, 'bilinear'), tmp_path / 'work'
    options = {'train_cfg.val_interval': 2}
    run(
        'train', cfg, '--work-dir', work,
        '--cfg-options', *camvid_options(segmentation_root, iterations=2, **options),
    )  # fmt: skip
    first = read(work / 'result.yml')
    run(
        'train', cfg, '--work-dir', work, '--resume',
        '--cfg-options', *camvid_options(segmentation_root, iterations=4, **options),
    )  # fmt: skip
    entry = read(work / 'result.yml')
    assert entry['budget'] == '4 iterations'
    assert entry['curve'] == {2: first['scores']}
    # Another run in the same folder has nothing to do with the first.
    run('train', cfg, '--work-dir', work, '--cfg-options', *camvid_options(segmentation_root))
    assert read(work / 'result.yml')['curve'] == {}


def test_training_without_validation_has_no_scores(detection_root, tmp_path):
    options = [
        *bccd_options(detection_root),
        *(f'{name}=None' for name in ('val_cfg', 'val_dataloader', 'val_evaluator')),
    ]
    cfg = config(BCCD, 'fade')
    run('train', cfg, '--work-dir', tmp_path, '--cfg-options', *options)
    entry = yaml.safe_load((tmp_path / 'result.yml').read_text())
    assert (entry['scores'], entry['budget'], entry['seed']) == ({}, '1 epoch', 0)
    assert (entry['host'], entry['data']) == ('Faster R-CNN R18', 'BCCD')
    with pytest.raises(SystemExit, match='scores must be numbers by name, at least one'):
        run('results', 'append', tmp_path)


def test_no_path_of_the_machine_is_written(tmp_path, monkeypatch):
    mine = tmp_path / 'mine.py'
    mine.touch()
    assert ResultHook(str(mine)).config == 'mine.py'
    monkeypatch.chdir(ROOT / 'tools')
    assert ResultHook(f'../{CAMVID.format("fade")}').config == CAMVID.format('fade')
    stock = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    options = {
        'load_from': str(tmp_path / 'trained.pth'),
        'val_dataloader.dataset.data_root': str(tmp_path),
        'randomness.seed': 1,
        'optim_wrapper.optimizer.lr': 0.1,
        'model.neck.upsample_cfg': {'type': 'fade'},
    }
    hook = ResultHook(stock, options)
    assert hook.config == stock
    assert hook.options == {
        'load_from': 'trained.pth',
        'optim_wrapper.optimizer.lr': 0.1,
        'model.neck.upsample_cfg': "{'type': 'fade'}",
    }


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(result_hook, '_ROOT', tmp_path)
    assert ResultHook('a.py').commit == __version__  # installed

    def git(*arguments):
        identity = ('-c', 'user.name=a', '-c', 'user.email=a@b')
        done = subprocess.run(
            ['git', *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git('init')
    (tmp_path / 'file').touch()
    git('add', 'file')
    git('commit', '--message=a', '--no-gpg-sign', '--no-verify')
    git('tag', 'v1')
    commit = git('rev-parse', 'HEAD')
    assert ResultHook('a.py').commit == commit[:12]
    (tmp_path / 'file').write_text('changed')
    assert ResultHook('a.py').commit == f'{commit[:12]}+dirty'
    monkeypatch.setenv('PATH', '')
    assert ResultHook('a.py').commit is None


@pytest.fixture
def docs(tmp_path):
    """A file of runs, a page of them, and what a further run has left."""
    entry = dict.fromkeys(FIELDS) | dict(
        task='depth',
        data='NYU',
        host='BTS R50',
        upsampler='FADE',
        config='a.py',
        options={},
        budget='2 epochs',
        curve={},
    )
    runs = [{**entry, 'seed': seed, 'scores': {'rmse': 1.0 + seed}} for seed in (0, 1)]
    (tmp_path / 'runs.yml').write_text('runs:\n' + dump(runs[:1]))
    (tmp_path / 'page.md').write_text('<!-- runs\ncolumns: {RMS: rmse}\n-->\n<!-- end -->\n')
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/test_result.yml').write_text(dump(runs[1]))
    return tmp_path


def test_append_and_tables(docs, capsys):
    data, page = docs / 'runs.yml', docs / 'page.md'
    run('results', '--data', data, 'append', docs / 'work')
    assert [entry['seed'] for entry in read_runs(data)] == [0, 1]
    before = page.read_bytes()
    with pytest.raises(
        SystemExit, match=r'page\.md: not the tables .*run tools/results\.py tables'
    ):
        run('results', '--data', data, 'tables', page, '--check')
    assert page.read_bytes() == before
    run('results', '--data', data, 'tables', page)
    assert '| FADE | 2 (0, 1) | 1.50 ± 0.71 (1.00, 2.00) |' in page.read_text()
    run('results', '--data', data, 'tables', page, '--check')
    with pytest.raises(SystemExit, match='has this run already'):
        run('results', '--data', data, 'append', docs / 'work')


def test_mistakes_end_with_one_line(docs):
    data, page = docs / 'runs.yml', docs / 'page.md'
    with pytest.raises(SystemExit, match=r'error: .*result\.yml cannot be read: No such file'):
        run('results', '--data', data, 'append', docs)
    page.write_text(page.read_text().replace('columns', 'sead: 1\ncolumns'))
    with pytest.raises(SystemExit, match=r'error: .*page\.md: sead is no field of a run'):
        run('results', '--data', data, 'tables', page)
