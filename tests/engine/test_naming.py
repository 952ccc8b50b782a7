"""What configs are called in tables."""

from pathlib import Path

import pytest

from fade_mm.engine import load_config
from fade_mm.engine.naming import UPSAMPLERS, data_of, host_of, task_of, upsampler_of
from fade_mm.engine.results import TASKS, read_runs
from fade_mm.evaluation import paper
from fade_mm.upsamplers import FADE

ROOT = Path(__file__).parents[2]
ROWS = [row for row in paper.read_rows(ROOT / 'tools/paper_tables.yml') if row.config]
SOME = [row for row in ROWS if row.host == 'SegFormer-B1' or row in paper.bases(ROWS).values()]


@pytest.mark.parametrize('row', SOME, ids=lambda row: f'{row.host} {row.upsampler}')
def test_configs_have_the_names_of_the_papers_tables(row):
    cfg = load_config(row.config)
    assert upsampler_of(cfg.model) == row.upsampler
    host = row.host.removesuffix(" (mmsegmentation's head)")
    assert host_of(cfg.model) == host.replace('SegFormer-B1', 'SegFormer MiT-B1')
    assert task_of(cfg) in TASKS
    if row.table in ('segmentation', 'detection', 'instance', 'panoptic'):
        assert task_of(cfg) == row.table
    assert data_of(cfg.val_dataloader) == ('ADE20K' if 'ade20k' in row.config else 'COCO')


def test_names_are_those_of_the_papers_tables():
    assert set(UPSAMPLERS) == {row.upsampler for row in ROWS}


CONFIGS = {run['config']: run for run in read_runs(ROOT / 'docs/results.yml')}


@pytest.mark.parametrize('name', CONFIGS, ids=lambda name: Path(name).stem)
def test_our_runs_have_the_names_of_their_configs(name):
    run, cfg = CONFIGS[name], load_config(str(ROOT / name))
    assert task_of(cfg) == run['task']
    assert data_of(cfg.val_dataloader) == run['data']
    assert host_of(cfg.model) == run['host']
    assert upsampler_of(cfg.model) == run['upsampler']


def neck(**upsample_cfg):
    return dict(neck=dict(type='fade_mm.FPN', upsample_cfg=upsample_cfg))


@pytest.mark.parametrize(
    ('upsample_cfg', 'name'),
    [
        (dict(mode='nearest'), 'Nearest'),
        (dict(type='sapa'), 'SAPA-B'),
        (dict(type='fade', mode='nearest', embedding_dim=64), 'FADE'),
        (dict(type='fade_mm.fade_lite'), 'FADE-Lite'),
        (dict(type=FADE), 'FADE'),
        (dict(type='a2u', downsampling=False), 'A2U'),
        (dict(type='fade', embedding_dim=32), None),
        (dict(type='deconv', kernel_size=5), None),
        (dict(type='somebody_elses'), None),
    ],
)
def test_an_upsampler_is_named_by_what_it_does(upsample_cfg, name):
    assert upsampler_of(neck(**upsample_cfg)) == name


def test_nothing_is_guessed():
    two = dict(neck=dict(type='FPN'), decode_head=dict(type='UPerHead'))
    assert upsampler_of(two) is None
    assert upsampler_of(dict(type='YOLOX')) is None
    resnet = dict(type='ResNet', depth=18)
    assert host_of(dict(type='RetinaNet', backbone=resnet)) == 'RetinaNet R18'
    assert host_of(dict(type='SomeDetector', backbone=resnet)) is None
    assert host_of(dict(type='RetinaNet', backbone=dict(type='MyNet'))) is None
    assert host_of(dict(type='RetinaNet')) is None
    assert data_of(None) is None
    assert data_of(dict(dataset=dict(dataset=dict(data_root='/some/where/potsdam/')))) == 'potsdam'


def test_test_time_augmentation_changes_no_name():
    model = load_config(str(ROOT / next(iter(CONFIGS)))).model
    augmented = dict(type='SegTTAModel', module=model)
    assert host_of(augmented) == host_of(model) == 'SegFormer MiT-B0'
    assert upsampler_of(augmented) == upsampler_of(model) == 'Bilinear'
