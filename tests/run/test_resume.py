"""A resumed run equals the uninterrupted one bit for bit, augmentation and all."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from mmengine.optim import OneCycleLR
from torch.utils.data import BatchSampler

from fade_mm.run.exact_resumption import Positions, SeededItems, inexact, seed_samples
from fade_mm.run.mmengine_fixes import drop_functions
from tests.tools import BCCD, CAMVID, ROOT, bccd_options, camvid_options, config, run


def assert_equal(a, b, path=''):
    """Compare nested containers of tensors exactly."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f'{path}.{key}')
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f'{path}.{i}')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def assert_same_state(a, b):
    a, b = (torch.load(path, weights_only=False) for path in (a, b))
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(a[part], b[part], part)
    assert (a['meta']['iter'], a['meta']['epoch']) == (b['meta']['iter'], b['meta']['epoch'])


def train(cfg, work, options, *resume):
    run('train', cfg, '--work-dir', work, *resume, '--cfg-options', *options)


def workers(count):
    """The shipped loaders' worker processes, or as many as are wanted."""
    return f'train_dataloader.num_workers={count}', 'val_dataloader.num_workers=0'


def log(work):
    """All that the runs in a work dir have logged."""
    return ''.join(path.read_text() for path in sorted(work.glob('*/*.log')))


@pytest.fixture
def camvid(segmentation_root):
    """Six iterations of random crops and flips, with dropout and drop path, and more options."""

    def options(**more):
        fixed = {'iterations': 6, 'train_cfg.val_interval': 6, **more}
        return list(camvid_options(segmentation_root, **fixed))

    return options


@pytest.mark.parametrize(
    ('seed', 'before', 'after'),
    [
        ('0', 2, 2),
        pytest.param('None', 2, 0, marks=pytest.mark.slow),
        pytest.param('0', 0, 2, marks=pytest.mark.slow),
        pytest.param('0', 1, 3, marks=pytest.mark.slow),
    ],
)
def test_iterations(camvid, tmp_path, seed, before, after):
    """Whichever worker has a sample, and however many there are."""
    cfg, options = config(CAMVID, 'fade'), camvid(**{'randomness.seed': seed})
    train(cfg, tmp_path / 'whole', [*options, *workers(before)])
    for at in (2, 4):
        parts = tmp_path / f'from{at}'
        checkpoint = tmp_path / f'whole/iter_{at}.pth'
        train(cfg, parts, [*options, *workers(after)], '--resume', checkpoint)
        assert_same_state(tmp_path / 'whole/iter_6.pth', parts / 'iter_6.pth')


@pytest.mark.parametrize(('before', 'after'), [(2, 2), (2, 0)])
@pytest.mark.slow
def test_epochs(detection_root, tmp_path, before, after):
    """Three epochs at once, and one and then two more, with random flips."""
    cfg = config(BCCD, 'nearest')
    options = list(bccd_options(detection_root, epochs=3))
    train(cfg, tmp_path / 'whole', [*options, *workers(before)])
    checkpoint = tmp_path / 'whole/epoch_1.pth'
    train(cfg, tmp_path / 'parts', [*options, *workers(after)], '--resume', checkpoint)
    assert_same_state(tmp_path / 'whole/epoch_3.pth', tmp_path / 'parts/epoch_3.pth')


RTMDET = """
_base_ = '{root}/configs/rtmdet/rtmdet_tiny_fade_1xb4-30e_bccd-320x240.py'
pipeline = [x for x in _base_.train_pipeline if x['type'] != 'RandomFlip']
average = dict(type='EMAHook', ema_type='ExpMomentumEMA', update_buffers=True, priority=49)
switch = dict(type='PipelineSwitchHook', switch_epoch=2, switch_pipeline=pipeline)
custom_hooks = [average, switch]
"""
YOLOX = """
_base_ = '{root}/configs/yolox/yolox_s_fade_8xb8-300e_coco.py'
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=[32, 64, 128], out_channels=32),
    bbox_head=dict(num_classes=3, in_channels=32, feat_channels=32),
)
pipeline = [x for x in _base_.train_pipeline if x['type'] != 'YOLOXHSVRandomAug']
for x in pipeline:
    x.update({{key: (64, 64) for key in ('img_scale', 'scale') if key in x}})
pipeline[1].border = (-32, -32)
data = dict(
    metainfo=dict(classes=('RBC', 'WBC', 'Platelets')), data_prefix=dict(img='images/')
)
dataset = dict(pipeline=pipeline, dataset=dict(data, ann_file='train.json'))
train_dataloader = dict(dataset=dataset)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (64, 64)
val_dataloader = dict(dataset=dict(data, ann_file='val.json', pipeline=test_pipeline))
test_dataloader = val_dataloader
custom_hooks = _base_.custom_hooks
custom_hooks[0].num_last_epochs = 1
"""


@pytest.mark.parametrize('text', [RTMDET, YOLOX], ids=['RTMDet', 'YOLOX'])
@pytest.mark.slow
def test_averages_and_a_pipeline_that_is_switched(detection_root, tmp_path, text):
    """As today's detectors have them: within the first part of the pipeline, and at the switch."""
    cfg = tmp_path / 'detector.py'
    cfg.write_text(text.format(root=ROOT))
    options = [
        *(f'{loader}_dataloader.dataset.data_root={detection_root}' for loader in ('val', 'test')),
        *(f'{stage}_evaluator.ann_file={detection_root}/val.json' for stage in ('val', 'test')),
        f'train_dataloader.dataset.{"dataset." if text is YOLOX else ""}data_root={detection_root}',
        'train_dataloader.batch_size=2',
        'train_cfg.max_epochs=3',
        'train_cfg.val_interval=3',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.checkpoint.max_keep_ckpts=9',
        *workers(0),
    ]
    train(cfg, tmp_path / 'whole', options)
    for at in (1, 2):
        parts = tmp_path / f'from{at}'
        train(cfg, parts, options, '--resume', tmp_path / f'whole/epoch_{at}.pth')
        whole, resumed = tmp_path / 'whole/epoch_3.pth', parts / 'epoch_3.pth'
        assert_same_state(whole, resumed)
        averages = [torch.load(x, weights_only=False)['ema_state_dict'] for x in (whole, resumed)]
        assert_equal(*averages)


@pytest.mark.slow
def test_within_an_epoch(detection_root, tmp_path):
    """Two iterations an epoch, and a checkpoint at each."""
    cfg = config(BCCD, 'nearest')
    saving = {f'default_hooks.checkpoint.{key}': value for key, value in
              {'by_epoch': False, 'interval': 1}.items()}  # fmt: skip
    options = list(bccd_options(detection_root, epochs=2, **saving))
    train(cfg, tmp_path / 'whole', options)
    for at in (1, 2, 3):
        parts = tmp_path / f'from{at}'
        train(cfg, parts, options, '--resume', tmp_path / f'whole/iter_{at}.pth')
        assert_same_state(tmp_path / 'whole/iter_4.pth', parts / 'iter_4.pth')


@pytest.mark.slow
def test_epochs_draw_anew(detection_root, tmp_path, monkeypatch):
    """Each epoch, and each sample of it, has draws of its own."""
    drawn = []
    transform = LoadImageFromFile.transform

    def drawing(self, results):
        if 'train' in results['img_path']:
            drawn.append((np.random.random(), float(torch.rand(()))))
        return transform(self, results)

    monkeypatch.setattr(LoadImageFromFile, 'transform', drawing)
    options = list(bccd_options(detection_root, epochs=3))
    train(config(BCCD, 'nearest'), tmp_path, options)
    assert len(drawn) == 12
    assert len(set(drawn)) == 12


@pytest.mark.slow
def test_validation_does_not_change_what_is_learnt(camvid, tmp_path):
    for name, interval in (('often', 1), ('once', 6)):
        train(
            config(CAMVID, 'fade'), tmp_path / name, camvid(**{'train_cfg.val_interval': interval})
        )
    assert_same_state(tmp_path / 'often/iter_6.pth', tmp_path / 'once/iter_6.pth')


@pytest.mark.slow
def test_resume_in_the_config_is_exact_too(camvid, tmp_path):
    cfg, options = config(CAMVID, 'bilinear'), camvid(**{'randomness.seed': 'None'})
    train(cfg, tmp_path / 'whole', options)
    checkpoint = tmp_path / 'whole/iter_2.pth'
    train(cfg, tmp_path / 'parts', [*options, 'resume=True', f'load_from={checkpoint}'])
    assert_same_state(tmp_path / 'whole/iter_6.pth', tmp_path / 'parts/iter_6.pth')


@pytest.mark.slow
@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_going_on_reads_nothing_twice(sampler, camvid, tmp_path, monkeypatch):
    """Also where the sampler ends, after three batches, and mmengine begins it anew."""
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda _: None)
    cfg, options = config(CAMVID, 'bilinear'), camvid(**{'train_dataloader.sampler.type': sampler})
    train(cfg, tmp_path / 'whole', options)
    read = []
    transform = LoadImageFromFile.transform
    monkeypatch.setattr(
        LoadImageFromFile,
        'transform',
        lambda self, results: read.append(results['img_path']) or transform(self, results),
    )
    parts = tmp_path / 'parts'
    train(cfg, parts, options, '--resume', tmp_path / 'whole/iter_4.pth')
    assert_same_state(tmp_path / 'whole/iter_6.pth', parts / 'iter_6.pth')
    assert len([path for path in read if 'training' in path]) == 4  # two batches of two


@pytest.mark.parametrize('steps', [0, 1, 7, 8, 9, 100_000])
@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
def test_a_sampler_is_advanced_as_if_it_were_read(sampler, steps):
    def positions():
        return Positions(BatchSampler(sampler(range(16), seed=0), 2, drop_last=True))

    def batches(positions, restarts=0):
        while True:
            for batch in positions:
                yield list(batch), batch.place
            restarts += 1
            positions.sampler.set_epoch(restarts)

    steps = steps if sampler is InfiniteSampler else min(steps, 1000)
    read, advanced = batches(positions()), positions()
    for _ in range(steps):
        next(read)
    went_on = batches(advanced, advanced.advance(steps))
    assert [next(read) for _ in range(20)] == [next(went_on) for _ in range(20)]


def test_a_sample_draws_by_its_place_alone():
    class Draws(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return index, np.random.random(), float(torch.rand(()))

    def drawn(num_workers, **kwargs):
        loader = torch.utils.data.DataLoader(
            Draws(), 4, num_workers=num_workers, collate_fn=list, **kwargs
        )
        seed_samples(loader, seed=3)
        torch.manual_seed(0)
        first = [sample for batch in loader for sample in batch]
        loader.batch_sampler.begin(1)
        second = [sample for batch in loader for sample in batch]
        return first, second, torch.get_rng_state()

    first, second, state = drawn(0)
    assert len({x for sample in first + second for x in sample[1:]}) == 32
    for count in (1, 3):
        same = drawn(count, persistent_workers=True)
        assert same[:2] == (first, second)
        assert torch.equal(same[2], state)  # the training's generator is left alone
    assert SeededItems(Draws(), seed=4)._item(0, (0, 0, 0)) != first[0]


def test_weights_alone_cannot_be_resumed_from(tmp_path):
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'a.pth')
    with pytest.raises(SystemExit, match=r'holds weights alone; start from it with load_from'):
        run('train', config(CAMVID, 'bilinear'), '--resume', tmp_path / 'a.pth')


def test_nothing_to_resume_from_starts_from_the_beginning(camvid, tmp_path, capsys):
    options = camvid(iterations=2, **{'train_cfg.val_interval': 2})
    train(config(CAMVID, 'bilinear'), tmp_path / 'new', options, '--resume')
    assert 'training from the beginning' in capsys.readouterr().out
    assert (tmp_path / 'new/iter_2.pth').exists()
    train(config(CAMVID, 'bilinear'), tmp_path / 'new', options, '--resume')
    assert 'There is nothing to resume: ' in (said := capsys.readouterr().out)
    assert 'iter 2 of 2' in said
    assert len(list((tmp_path / 'new').glob('*/*.log'))) == 1  # nothing was built


@pytest.mark.slow
def test_a_work_dir_that_was_moved_goes_on(camvid, tmp_path):
    """And the best checkpoint of the place where it was is left alone."""
    cfg = config(CAMVID, 'bilinear')
    best = {f'default_hooks.checkpoint.{key}': value for key, value in
            {'save_best': 'mIoU', 'rule': 'less', 'interval': 2}.items()}  # fmt: skip
    options = camvid(**{'train_cfg.val_interval': 2, **best})
    train(cfg, tmp_path / 'old', [*options, 'train_cfg.max_iters=2'])
    shutil.copytree(tmp_path / 'old', tmp_path / 'copied')
    (tmp_path / 'old').rename(tmp_path / 'moved')
    kept = {path: path.read_bytes() for path in (tmp_path / 'moved').glob('*.pth')}
    assert any('best_mIoU' in path.name for path in kept)
    train(cfg, tmp_path / 'copied', options, '--resume')
    assert (tmp_path / 'copied/iter_6.pth').exists()
    assert len(list((tmp_path / 'copied').glob('best_mIoU*.pth'))) == 1  # as in one place
    (other := tmp_path / 'other').mkdir()
    train(cfg, other, options, '--resume', tmp_path / 'moved/iter_2.pth')
    assert (tmp_path / 'other/iter_6.pth').exists()
    assert {path: path.read_bytes() for path in kept if path.exists()} == kept


def test_transforms_that_keep_pictures_are_named():
    from mmdet.datasets import MultiImageMixDataset
    from mmdet.datasets.transforms import CachedMosaic

    inner = BaseDataset(lazy_init=True, serialize_data=False, pipeline=[lambda x: x])
    inner.data_list, inner._fully_initialized = [dict(img_path='a.jpg')], True
    dataset = MultiImageMixDataset(inner, [dict(type='RandomFlip', prob=0.5)])
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset), optim_wrapper=None)
    checkpoint = dict(optimizer={}, param_schedulers=[], meta=dict(iter=2))
    assert list(inexact(runner, checkpoint)) == []
    dataset.pipeline.append(CachedMosaic())
    (reason,) = inexact(runner, checkpoint)
    assert reason == 'CachedMosaic mixes in earlier pictures, which are not kept'


@pytest.mark.slow
def test_what_is_not_exact_is_said(camvid, tmp_path):
    cfg = config(CAMVID, 'bilinear')
    whole = tmp_path / 'whole'
    train(cfg, whole, camvid(**{'optim_wrapper.accumulative_counts': 2}))
    content = torch.load(whole / 'iter_2.pth', weights_only=False)

    def said(name, content, **more):
        torch.save(content, tmp_path / f'{name}.pth')
        options = camvid(**more)
        train(cfg, tmp_path / name, options, '--resume', tmp_path / f'{name}.pth')
        lines = log(tmp_path / name).splitlines()
        return [
            line.partition('Resuming is not exact: ')[2]
            for line in lines
            if 'is not exact: ' in line
        ]

    assert said('exact', content) == []
    best = {key: content[key] for key in content if key not in ('optimizer', 'param_schedulers')}
    (line,) = said('best', best)
    assert 'no state of the optimizer and the schedules' in line
    (line,) = said('accumulating', content, **{'optim_wrapper.accumulative_counts': 4})
    assert 'lies 2 iterations into an accumulation of gradients over 4' in line
    elsewhere = content | dict(meta=content['meta'] | dict(processes=8, device='NVIDIA H100'))
    first, second = said('elsewhere', elsewhere)
    assert first == '8 processes before, 1 now.'
    assert 'trained on NVIDIA H100, and goes on on' in second
    older = content | dict(meta={k: v for k, v in content['meta'].items() if k != 'device'})
    assert said('older', older) == []


def test_a_one_cycle_schedule_is_saved_as_data(tmp_path):
    """mmengine's state of it holds a function, which no loader of data alone would take."""

    def schedule():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return OneCycleLR(optimizer, eta_max=2.0, total_steps=9), optimizer

    (one, optimizer), (other, other_optimizer) = schedule(), schedule()
    for _ in range(3):
        one.step()
    checkpoint = dict(param_schedulers=[one.state_dict()])
    drop_functions(checkpoint)
    torch.save(checkpoint, tmp_path / 'x.pth')
    (state,) = torch.load(tmp_path / 'x.pth', weights_only=True)['param_schedulers']
    other.load_state_dict(state)
    other_optimizer.load_state_dict(optimizer.state_dict())
    for _ in range(5):
        one.step()
        other.step()
        assert optimizer.param_groups[0]['lr'] == other_optimizer.param_groups[0]['lr']
