"""What configs are called in tables."""

from pathlib import Path

import pytest

from fade_mm.hosts import host_of
from fade_mm.papers import tables
from fade_mm.run import load_config
from fade_mm.run.naming import UPSAMPLERS, data_of, host_name, upsampler_of
from fade_mm.run.results import TASKS, read_runs
from fade_mm.upsamplers import FADE

ROOT = Path(__file__).parents[2]
ROWS = [row for row in tables.read_rows() if row.config]
HOSTS = ('SegFormer-B1', 'A2U Matting R34')  # all of their rows
SOME = [row for row in ROWS if row.host in HOSTS or row in tables.bases(ROWS).values()]


@pytest.mark.parametrize('row', SOME, ids=lambda row: f'{row.host} {row.upsampler}')
def test_configs_have_the_names_of_the_papers_tables(row):
    cfg = load_config(row.config)
    assert upsampler_of(cfg) == row.upsampler
    host = row.host.removesuffix(" (mmsegmentation's head)")
    assert host_name(cfg) == host.replace('SegFormer-B1', 'SegFormer MiT-B1')
    task = host_of(cfg).task_of(cfg)
    assert task == row.table if row.table in TASKS else task in TASKS
    data = {'ade20k': 'ADE20K', 'composition-1k': 'Composition-1K', 'nyu': 'NYU Depth v2'}
    expected = next((data[x] for x in data if x in row.config), 'COCO')
    assert data_of(cfg.val_dataloader) == expected


def test_names_are_those_of_the_papers_tables():
    assert set(UPSAMPLERS) == {row.upsampler for row in ROWS}


CONFIGS = {run['config']: run for run in read_runs(ROOT / 'docs/results.yml')}


@pytest.mark.parametrize('name', CONFIGS, ids=lambda name: Path(name).stem)
def test_our_runs_have_the_names_of_their_configs(name):
    run = CONFIGS[name]
    cfg = load_config(str(ROOT / name), run['options'])
    assert host_of(cfg).task_of(cfg) == run['task']
    assert data_of(cfg.val_dataloader) == run['data']
    assert host_name(cfg) == run['host']
    assert upsampler_of(cfg) == run['upsampler']


def of_mmdet(**model):
    return dict(model=model, default_scope='mmdet')


@pytest.mark.parametrize(
    ('upsample_cfg', 'name'),
    [
        (dict(mode='nearest'), 'Nearest'),
        (dict(type='sapa'), 'SAPA-B'),
        (dict(type='fade', mode='nearest', embedding_dim=64), 'FADE'),
        (dict(type='fade_mm.fade_lite'), 'FADE-Lite'),
        (dict(type=FADE), 'FADE'),
        (dict(type='a2u', downsampling=False), 'A2U'),
        (dict(type='a2u', num_groups=8), 'A2U'),
        (dict(type='fade', gating=False), 'FADE without gate'),
        (dict(type='fade', gating=False, embedding_dim=32), None),
        (dict(type='fade', up_group=8), 'FADE with 8 groups'),
        (dict(type='fade', up_group=1), 'FADE'),
        (dict(type='carafe', up_group=2), 'CARAFE with 2 groups'),
        (dict(type='fade', up_group=0), None),
        (dict(type='fade', up_group=4, gating=False), 'FADE with 4 groups without gate'),
        (dict(type='depthwise'), 'Depthwise 5x5'),
        (dict(type='depthwise', kernel_size=3), None),
        (dict(type='fade', embedding_dim=32), None),
        (dict(type='deconv', kernel_size=5), None),
        (dict(type='somebody_elses'), None),
    ],
)
def test_an_upsampler_is_named_by_what_it_does(upsample_cfg, name):
    neck = dict(type='fade_mm.FPN', upsample_cfg=upsample_cfg)
    assert upsampler_of(of_mmdet(neck=neck)) == name


def test_nothing_is_guessed():
    two = of_mmdet(neck=dict(type='FPN'), decode_head=dict(type='mmseg.UPerHead'))
    assert upsampler_of(two) is None
    assert upsampler_of(of_mmdet(type='YOLOX')) is None
    mobile = dict(type='MobileNetV2')
    assert host_name(of_mmdet(type='MaskRCNN', backbone=mobile)) == 'Mask R-CNN MobileNetV2'
    narrow = dict(mobile, widen_factor=0.5)
    assert host_name(of_mmdet(type='MaskRCNN', backbone=narrow)) is None
    resnet = dict(type='ResNet', depth=18)
    assert host_name(of_mmdet(type='RetinaNet', backbone=resnet)) == 'RetinaNet R18'
    assert host_name(of_mmdet(type='YOLOX', backbone=resnet)) is None
    assert host_name(of_mmdet(type='RetinaNet', backbone=dict(type='MyNet'))) is None
    assert host_name(of_mmdet(type='RetinaNet')) is None
    assert data_of(None) is None
    assert data_of(dict(dataset=dict(dataset=dict(data_root='/some/where/potsdam/')))) == 'potsdam'


def test_test_time_augmentation_changes_no_name():
    cfg = load_config(str(ROOT / next(iter(CONFIGS))))
    augmented = dict(model=dict(type='SegTTAModel', module=cfg.model), default_scope='mmseg')
    assert host_name(augmented) == host_name(cfg) == 'SegFormer MiT-B0'
    assert upsampler_of(augmented) == upsampler_of(cfg) == 'Bilinear'
