"""BTS R50's config is the recipe of BTS for NYU Depth v2."""

import math

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch import nn

from fade_mm.run import load_config
from tests.configs.test_configs import ROOT, build

CONFIG = 'bts/bts_r50_fade_1xb4-50e_nyu-416x544.py'


@pytest.fixture(scope='module')
def cfg():
    return load_config(str(ROOT / CONFIG))


@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
def test_learning_rates_fall_by_a_power_to_a_tenth(cfg):
    model = nn.ModuleDict({name: nn.Linear(1, 1) for name in ('backbone', 'decode_head')})
    with DefaultScope.overwrite_default_scope('mmseg'):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        (scheduler,) = (
            PARAM_SCHEDULERS.build(x, default_args=dict(optimizer=wrapper))
            for x in cfg.param_scheduler
        )
    steps = cfg.train_cfg.max_iters
    assert abs(steps - 50 * 24_231 / 4) < 50
    for done in range(20_000):
        expected = (1e-4 - 1e-5) * (1 - done / steps) ** 0.9 + 1e-5
        assert all(math.isclose(x, expected, rel_tol=1e-5) for x in wrapper.get_lr()['lr']), done
        scheduler.step()


def test_the_encoder_alone_is_decayed_and_what_is_frozen_has_no_rate():
    model, cfg = build(CONFIG)
    with DefaultScope.overwrite_default_scope('mmseg'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        assert (group['lr'], group['eps'], group['betas']) == (1e-4, 1e-3, (0.9, 0.999))
        for parameter in group['params']:
            name = names[id(parameter)]
            decay = 0 if name.startswith('decode_head') else 1e-2
            assert group['weight_decay'] == decay, name
    trained = {names[id(p)] for group in optimizer.param_groups for p in group['params']
               if p.requires_grad}  # fmt: skip
    assert 'backbone.layer1.0.downsample.1.weight' in trained
    assert 'decode_head.bn5.weight' in trained
    assert not trained.intersection(('backbone.conv1.weight', 'backbone.layer1.0.bn1.bias'))


def test_data_loss_and_evaluation(cfg):
    assert cfg.train_dataloader.batch_size == 4
    train = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert list(train) == [
        'LoadImageFromFile',
        'LoadDepthAnnotation',
        'fade_mm.FixedCrop',
        'RandomRotate',
        'RandomCrop',
        'RandomFlip',
        'fade_mm.RandomGammaBrightnessColor',
        'PackSegInputs',
    ]
    assert train['LoadDepthAnnotation'].depth_rescale_factor == 1e-3
    assert tuple(train['fade_mm.FixedCrop'].box) == (45, 472, 43, 608)
    rotate = train['RandomRotate']
    assert (rotate.prob, rotate.degree, rotate.seg_pad_val) == (1.0, 2.5, 0)
    assert tuple(train['RandomCrop'].crop_size) == (416, 544)
    assert train['RandomFlip'].prob == 0.5
    assert cfg.model.data_preprocessor.seg_pad_val == 0
    assert [step.type for step in cfg.test_dataloader.dataset.pipeline][1:-1] == [
        'LoadDepthAnnotation'
    ]
    assert cfg.model.test_cfg == dict(mode='whole')
    metric = cfg.val_evaluator
    assert (metric.min_depth, metric.max_depth, metric.crop) == (1e-3, 10.0, 'eigen')
    assert cfg.train_cfg.val_interval == 500
    checkpoint = cfg.default_hooks.checkpoint
    assert len(checkpoint.save_best) == 9
    assert checkpoint.rule == ['less'] * 6 + ['greater'] * 3
    model, _ = build(CONFIG)
    (loss,) = model.decode_head.loss_decode
    assert (loss.variance_focus, loss.scale, loss.min_depth) == (0.85, 10.0, 0.1)
    assert model.decode_head.max_depth == 10.0
