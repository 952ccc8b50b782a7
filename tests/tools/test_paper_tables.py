"""`tools/paper_tables.py` and `tools/get_flops.py` on small models and generated data."""

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from fade_mm.papers import tables
from fade_mm.run import SetupError
from tests.tools import BCCD, CAMVID, ROOT, bccd_options, camvid_options, config, run

KEYS = [
    'table', 'host', 'upsampler', 'params', 'gflops',
    'published_params', 'published_gflops', 'metrics', 'published_metrics', 'source',
]  # fmt: skip
ROWS = f"""
sources:
  here: a made-up README
hosts:
  - host: SegFormer MiT-B0
    table: segmentation
    config: {ROOT / CAMVID}
    shape: [64, 64]
    metrics: {{mIoU: mIoU, bIoU: mBIoU}}
    rows:
      - {{upsampler: Bilinear, config: bilinear, source: here, params: 3.7M, mIoU: 45.04,
         bIoU: 32.32}}
      - {{upsampler: FADE, config: fade, source: here, params: +0.29M, gflops: +9.99, mIoU: 48.40,
         differs: made up}}
  - host: Faster R-CNN R18
    table: detection
    config: {ROOT / BCCD}
    shape: [64, 96]
    metrics: {{AP: coco/bbox_mAP}}
    rows:
      - {{upsampler: Nearest, config: nearest, source: here, AP: 57.5}}
      - {{upsampler: FADE, config: fade, source: here, AP: 58.6}}
"""


@pytest.fixture
def small_rows(tmp_path, monkeypatch):
    """The tool's data file is one of small models."""
    (tmp_path / 'tools').mkdir()
    path = tmp_path / 'tools/rows.yml'
    path.write_text(ROWS)
    rows = tables.read_rows(path)
    monkeypatch.setattr(tables, 'read_rows', lambda: rows)


def printed(capsys, *arguments):
    """What the tool prints as JSON, which must be all that it prints."""
    capsys.readouterr()
    run('paper_tables', *arguments, '--format', 'json')
    return json.loads(capsys.readouterr().out)


def trained(template, upsampler, folder, options):
    """A checkpoint where `tools/train.py` leaves it, and what `tools/test.py` says of it."""
    cfg = config(template, upsampler)
    work = folder / cfg.stem
    run('train', cfg, '--work-dir', work, '--cfg-options', *options)
    test = folder / 'test'
    checkpoint = next(work.glob('*_[14].pth'))
    run('test', cfg, checkpoint, '--work-dir', test, '--cfg-options', *options)
    return json.loads(next(test.glob('*/*.json')).read_text())


@pytest.mark.slow
def test_scores_are_those_of_the_test_tool(small_rows, segmentation_root, tmp_path, capsys):
    folder = tmp_path / 'work_dirs'
    options = list(camvid_options(segmentation_root))
    tested = trained(CAMVID, 'fade', folder, options)
    before = sorted(folder.rglob('*'))
    bilinear, fade = printed(capsys, 'segmentation', '--checkpoints', folder)
    assert list(fade) == list(bilinear) == KEYS
    assert bilinear['metrics'] is None
    assert fade['metrics'] == {'mIoU': tested['mIoU'], 'bIoU': tested['mBIoU']}
    assert fade['published_metrics'] == {'mIoU': '48.40'}
    assert fade['source'] == 'a made-up README'
    assert sorted(folder.rglob('*')) == before

    shutil.rmtree(segmentation_root)
    run('paper_tables', 'segmentation', '--checkpoints', folder)
    text = capsys.readouterr().out
    assert '1. no checkpoint\n2. test_dataloader: the data set is not there' in text
    assert '48.40' in text


@pytest.mark.slow
def test_detection_scores_are_in_percent(small_rows, detection_root, tmp_path, capsys):
    folder = tmp_path / 'work_dirs'
    options = list(bccd_options(detection_root))
    tested = trained(BCCD, 'nearest', folder, options)
    trained(BCCD, 'fade', folder, options)
    nearest, fade = printed(capsys, 'detection', '--checkpoints', folder)
    assert nearest['metrics'] == {'AP': pytest.approx(100 * tested['coco/bbox_mAP'])}
    assert set(fade['metrics']) == {'AP'}


@pytest.mark.slow
def test_a_row_that_cannot_be_evaluated_costs_no_other_row_its_scores(
    small_rows, detection_root, tmp_path, capsys
):
    folder = tmp_path / 'work_dirs'
    options = list(bccd_options(detection_root))
    trained(BCCD, 'fade', folder, options)
    broken = folder / config(BCCD, 'nearest').stem
    shutil.copytree(folder / config(BCCD, 'fade').stem, broken)
    (broken / f'{broken.name}.py').write_text('model = dict(type=')
    nearest, fade = printed(capsys, 'detection', '--checkpoints', folder)
    assert nearest['metrics'] is None
    assert set(fade['metrics']) == {'AP'}
    stock = Config.fromfile(next(folder.glob('*_fade_*/*.py')))
    del stock.model.neck.upsample_cfg
    stock.dump(broken / f'{broken.name}.py')
    run('paper_tables', 'detection', '--checkpoints', folder)
    assert 'does not fit the model: neck.upsamplers' in capsys.readouterr().out


def test_an_evaluation_without_the_metrics_says_so(monkeypatch):
    row = tables.Row(*[''] * 8, metric_keys={'AP': 'coco/bbox_mAP'}, source='', differs='', note='')
    monkeypatch.setattr(tables, 'load_config', lambda name, work_dir: None)
    monkeypatch.setattr(tables, 'evaluate', lambda cfg, checkpoint: {})
    with pytest.raises(SetupError, match='none of coco/bbox_mAP, but nothing'):
        tables.scores(row, '', '', '')


@pytest.mark.parametrize('table', ['complexity', 'toy'])
def test_a_table_without_scores_evaluates_no_checkpoints(table, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tables, 'count', lambda rows, say: None)
    run('paper_tables', table, '--checkpoints', tmp_path)
    assert capsys.readouterr().err == f'--checkpoints: {table} evaluates none\n'


def test_scores_alone_count_nothing(monkeypatch):
    monkeypatch.setattr(tables, 'count', lambda rows, say: pytest.fail('counted'))
    run('paper_tables', 'detection')


def test_complexity_needs_no_data(small_rows, capsys):
    rows = printed(capsys)
    assert [row['host'] for row in rows] == ['SegFormer MiT-B0'] * 2 + ['Faster R-CNN R18'] * 2
    assert {row['table'] for row in rows} == {'complexity'}
    for row in rows:
        assert list(row) == KEYS
        assert isinstance(row['params'], int)
        assert isinstance(row['gflops'], float)
    bilinear, fade = rows[:2]
    assert fade['params'] - bilinear['params'] == 285_084
    points = 4**2 + 2 * 8**2 + 3 * 16**2
    assert fade['gflops'] - bilinear['gflops'] == pytest.approx(2.6532 * points / 58_368, abs=1e-5)
    assert (fade['published_params'], fade['published_gflops']) == ('+0.29M', '+9.99')


def test_differences_are_printed_with_their_reason(small_rows, capsys):
    run('paper_tables', 'complexity', '--format', 'markdown')
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if '+9.99' in line)
    assert '| +0.29M | +0.29M | 0 |' in line
    assert '| +0.04 | +9.99 | -9.95 | a made-up README | 1 |' in line
    assert '1. made up' in text


def test_scores_have_as_many_digits_as_are_published(monkeypatch, capsys):
    def score(rows, folder, say):
        rows[0].metrics = {'d1': 0.86449, 'RMS': 0.4}

    monkeypatch.setattr(tables, 'score', score)
    run('paper_tables', 'depth', '--format', 'markdown')
    row = next(x for x in capsys.readouterr().out.splitlines() if 'Nearest' in x)
    assert '| BTS R50 | Nearest | 0.864 | 0.865 |' in row
    assert '| 0.400 | 0.419 |' in row


def test_a_table_with_published_figures_alone(capsys):
    rows = printed(capsys, 'toy')
    row = next(row for row in rows if row['upsampler'] == 'kernels from both')
    assert (row['params'], row['gflops'], row['metrics']) == (None, None, None)
    assert row['published_metrics'] == {'mIoU': '37.59', 'bIoU': '28.80'}


def test_a_wrong_folder_ends_with_one_line(small_rows):
    with pytest.raises(SystemExit, match='--checkpoints: there is no folder nowhere'):
        run('paper_tables', 'ablation', '--checkpoints', 'nowhere')


def test_a_folder_without_a_row_of_the_table_is_mentioned(small_rows, tmp_path, capsys):
    run('paper_tables', 'detection', '--checkpoints', tmp_path)
    name = Path(BCCD.format('fade')).stem
    expected = f'--checkpoints: {tmp_path} has no folder of a row, e.g. {name}\n'
    assert capsys.readouterr().err.startswith(expected)


def test_flops_of_stock_segformer_b1(capsys):
    """PAPER: mmengine's counts give 16.03G and 13.72M."""
    run('get_flops', 'mmseg::segformer/segformer_mit-b1_8xb2-160k_ade20k-512x512.py')
    text = capsys.readouterr().out
    assert '512 x 512' in text
    assert '16.03 G' in text
    assert '13.72 M' in text


def test_flops_count_our_operator(capsys):
    totals = []
    for upsampler in ('bilinear', 'fade'):
        run('get_flops', config(CAMVID, upsampler), '--shape', 64, 64)
        totals.append(float(capsys.readouterr().out.split('FLOPs')[1].split()[0]))
    points = 4**2 + 2 * 8**2 + 3 * 16**2
    assert totals[1] - totals[0] == pytest.approx(2.6532 * points / 58_368, abs=0.011)


def test_flops_of_a_shape_that_is_none():
    with pytest.raises(SystemExit):
        run('get_flops', config(CAMVID, 'fade'), '--shape', 0, 64)
