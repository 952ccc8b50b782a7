"""The data file of the papers' tables, and our counts beside the published ones."""

import re
from pathlib import Path

import pytest

from fade_mm.analysis.complexity import count_parameters, predicting_model
from fade_mm.papers import tables
from fade_mm.run import SetupError, load_config
from fade_mm.run.models import build_model

ROWS = tables.read_rows()
BY_NAME = {(row.table, row.host, row.upsampler): row for row in ROWS}


def name(row):
    return f'{row.host} {row.upsampler}'


PUBLISHED = [row for row in ROWS if row.config and (row.published_params or row.published_gflops)]


@pytest.fixture(scope='module')
def bases():
    """The rows that others are compared with, after counting what is published of any."""
    hosts = {row.host for row in PUBLISHED if row.published_gflops}
    tables.count([row for row in PUBLISHED if row.host in hosts], report=lambda line: None)
    for row in PUBLISHED:
        if row.host not in hosts:
            row.params = count_parameters(predicting_model(load_config(row.config)))
    return tables.bases(PUBLISHED)


@pytest.mark.parametrize('row', PUBLISHED, ids=name)
@pytest.mark.slow
def test_published_counts_come_out_or_the_row_says_why_not(row, bases):
    assert bool(tables.differences(row, bases[row.host])) == bool(row.differs)


@pytest.mark.parametrize(
    ('host', 'upsampler', 'params', 'gflops'),
    [
        ('SegFormer-B1', 'Bilinear', '13.7M', '15.91'),
        ('SegFormer-B1', 'CARAFE', '+0.44M', '+1.453'),
        ('SegFormer-B1', 'IndexNet', '+12.60M', '+30.65'),
        ('SegFormer-B1', 'A2U', '+0.12M', '+0.408'),
        ('SegFormer-B1', 'SAPA-B', '+0.1M', '+1.018'),
        ('SegFormer-B1', 'FADE', '+0.29M', '+2.653'),
        ('SegFormer-B1', 'FADE-Lite', '+80K', '+0.8905'),
        ('Faster R-CNN R50', 'CARAFE', '+0.22M', None),
        ('Faster R-CNN R50', 'IndexNet', '+6.30M', None),
        ('Faster R-CNN R50', 'A2U', '+0.03M', None),
        ('Faster R-CNN R50', 'SAPA-B', '+0.05M', None),
        ('Faster R-CNN R50 FPN_CARAFE', 'Deconv', '+2.4M', None),
        ('Faster R-CNN R50 FPN_CARAFE', 'PixelShuffle', '+9.4M', None),
        ('Faster R-CNN R50 FPN_CARAFE', 'CARAFE', '+0.3M', None),
        ('Faster R-CNN R50 FPN_CARAFE', 'IndexNet', '+8.4M', None),
        ('Faster R-CNN R50 FPN_CARAFE', 'A2U', '+0.1M', None),
        ('Faster R-CNN R50 FPN_CARAFE', 'SAPA-B', '+0.1M', None),
        ('Faster R-CNN R50 FPN_CARAFE', 'FADE', '+0.2M', None),
        ('UPerNet R50', 'Deconv', '+7.1M', None),
        ('UPerNet R50', 'PixelShuffle', '+28.3M', None),
        ('UPerNet R50', 'IndexNet', '+25.2M', None),
        ('Panoptic FPN R50', 'CARAFE', '+0.2M', None),
        ('Panoptic FPN R50', 'IndexNet', '+6.3M', None),
        ('Panoptic FPN R50', 'SAPA-B', '+0.1M', None),
        ('Panoptic FPN R50', 'DySample-S+', '+6.2K', None),
        ('Panoptic FPN R50', 'DySample+', '+49.2K', None),
        ('Panoptic FPN R50', 'FADE', '+0.1M', None),
        ('BTS R50', 'CARAFE', '+0.41M', None),
        ('BTS R50', 'A2U', '+0.08M', None),
        ('BTS R50', 'SAPA-B', '+0.16M', None),
        ('BTS R50', 'SAPA-G', '+0.25M', None),
    ],
)
@pytest.mark.slow
def test_the_counts_that_the_papers_stand_on(host, upsampler, params, gflops, bases):
    row = next(row for row in PUBLISHED if (row.host, row.upsampler) == (host, upsampler))
    base = bases[host]
    for ours, of_base, like in (
        (row.params, base.params, params),
        (row.flops, base.flops, gflops),
    ):
        if like:
            assert tables.as_printed(ours - of_base if like[0] == '+' else ours, like) == like


def test_why_the_counts_of_a2u_and_dysample_differ():
    """A2U's 29.2K are its filters, DySample's 32.7K (cut off) and 65.5K its weights."""
    for row, printed in (
        (BY_NAME['panoptic', 'Panoptic FPN R50', 'A2U'], '29,184'),
        (BY_NAME['detection', 'Faster R-CNN R50 FPN_CARAFE', 'DySample'], '32,768'),
        (BY_NAME['detection', 'Faster R-CNN R50 FPN_CARAFE', 'DySample+'], '65,536'),
    ):
        upsamplers = predicting_model(load_config(row.config)).neck.upsamplers
        assert f'{sum(p.numel() for p in upsamplers.parameters() if p.ndim == 4):,}' == printed


@pytest.mark.parametrize(
    ('host', 'printed'),
    [
        ('Faster R-CNN R50', '41.53M'),
        ('Faster R-CNN R50 FPN_CARAFE', '46.84M'),
        ('Faster R-CNN R101 FPN_CARAFE', '65.8M'),
    ],
)
def test_detectors_are_printed_with_what_trains(host, printed):
    nearest = predicting_model(load_config(BY_NAME['detection', host, 'Nearest'].config))
    trained = sum(p.numel() for p in nearest.parameters() if p.requires_grad)
    assert tables.as_printed(trained, printed) == printed


def test_upernet_is_printed_with_its_auxiliary_head():
    cfg = load_config(BY_NAME['segmentation', 'UPerNet R50', 'Bilinear'].config)
    assert tables.as_printed(count_parameters(build_model(cfg)), '66.5M') == '66.5M'


@pytest.mark.parametrize('row', [row for row in ROWS if row.config], ids=name)
def test_the_config_of_a_row_asks_for_its_upsampler(row):
    tag = row.upsampler.lower().replace('+', '-plus').replace('pixelshuffle', 'pixel-shuffle')
    tag = 'indexnet-matting' if (row.table, tag) == ('matting', 'indexnet') else tag
    tag = f'fade-{tag}' if row.table == 'ablation' else tag
    if '::' in row.config:
        assert row.upsampler in ('Nearest', 'Bilinear')
        assert load_config(row.config).model
    else:
        assert f'_{tag}_' in row.stem
        assert Path(row.config).is_file()


@pytest.mark.parametrize('row', ROWS, ids=name)
def test_published_figures_have_a_source_and_are_numbers(row):
    published = bool(row.published_metrics or row.published_params or row.published_gflops)
    assert bool(row.source) == published
    assert all(re.fullmatch(r'\d+\.\d+', value) for value in row.published_metrics.values())
    for figure in (row.published_params, row.published_gflops):
        assert figure is None or tables.as_printed(0, figure)


@pytest.mark.parametrize(
    ('table', 'host', 'upsampler', 'metrics'),
    [
        ('segmentation', 'SegFormer-B1', 'FADE', {'mIoU': '44.41', 'bIoU': '32.65'}),
        ('segmentation', 'SegFormer-B1', 'SAPA-B', {'mIoU': '43.20'}),
        ('detection', 'Faster R-CNN R50 FPN_CARAFE', 'FADE', {'AP': '38.5'}),
        ('instance', 'Mask R-CNN R50 FPN_CARAFE', 'FADE', {'box AP': '39.1', 'mask AP': '35.1'}),
        ('segmentation', 'UPerNet R50', 'FADE', {'mIoU': '41.83', 'bIoU': '27.92'}),
        ('matting', 'A2U Matting R34', 'FADE-Lite', {'SAD': '31.36', 'MSE': '0.0075'}),
        ('depth', 'BTS R50', 'A2U', {'d1': '0.860', 'RMS': '0.429', 'AbsRel': '0.121'}),
    ],
)
def test_figures_are_as_printed(table, host, upsampler, metrics):
    published = BY_NAME[table, host, upsampler].published_metrics
    assert published.items() >= metrics.items()


@pytest.mark.parametrize(
    ('value', 'like', 'printed', 'off'),
    [
        (285_084, '+0.29M', '+0.29M', '0'),
        (79_992, '+80K', '+80K', '0'),
        (155_718, '+0.1M', '+0.2M', '+0.1M'),
        (32_370, '+29.2K', '+32.4K', '+3.2K'),
        (15_909_191_680, '15.91', '15.91', '0'),
        (637_000_000, '+0.63', '+0.64', '+0.01'),
        (2_500_000, '+2M', '+3M', '+1M'),
        (0, '+0.00M', '+0.00M', '0'),
    ],
)
def test_a_count_is_rounded_as_the_published_one(value, like, printed, off):
    assert tables.as_printed(value, like) == printed
    assert tables.off_by(printed, like) == off


def test_complexity_has_what_is_here_and_other_tables_their_own():
    assert all(row.config for row in tables.select(ROWS, 'complexity'))
    assert {row.table for row in tables.select(ROWS, 'ablation')} == {'ablation'}
    b1 = [row for row in ROWS if row.host == 'SegFormer-B1']
    assert len({id(tables.bases(b1)[row.host]) for row in b1}) == 1


def test_the_best_checkpoint_of_a_run_is_preferred(tmp_path):
    folder = tmp_path / 'row'
    folder.mkdir()
    with pytest.raises(SetupError, match='no checkpoint'):
        tables.find_run(folder)
    (folder / 'last_checkpoint').write_text('/where/it/was/trained/iter_4.pth')
    with pytest.raises(SetupError, match='no checkpoint'):
        tables.find_run(folder)
    (folder / 'last_checkpoint').rename(tmp_path / 'last_checkpoint')
    (folder / 'converted.pth').touch()
    assert tables.find_run(folder) == (None, str(folder / 'converted.pth'))
    (tmp_path / 'last_checkpoint').rename(folder / 'last_checkpoint')
    (folder / 'iter_4.pth').touch()
    assert tables.find_run(folder) == (None, str(folder / 'iter_4.pth'))
    (folder / 'row.py').touch()
    (folder / 'best_mIoU_iter_2.pth').touch()
    assert tables.find_run(folder) == (str(folder / 'row.py'), str(folder / 'best_mIoU_iter_2.pth'))
