"""SegFormer-B1's config is the recipe of the authors' released logs (poppinace/fade)."""

import math
import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch import nn

from fade_mm.run import load_config
from tests.configs.test_configs import ROOT, build

CONFIG = 'segformer/segformer_mit-b1_fade_1xb16-160k_ade20k-512x512.py'
LOG = {  # iteration: learning rate, as printed; the log counts from 1
    50: '1.959e-06',
    100: '3.958e-06',
    750: '2.982e-05',
    1500: '5.940e-05',
    1550: '5.942e-05',
    159950: '1.913e-08',
}


@pytest.fixture(scope='module')
def recipe():
    """The model, without pretrained weights, and the config, with them."""
    return build(CONFIG)[0], load_config(str(ROOT / CONFIG))


@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
def test_learning_rates_are_those_of_the_log(recipe):
    """At the log's points, and by the old runner's formula at all iterations between them."""
    _, cfg = recipe
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in ('body', 'decode_head')})
    with DefaultScope.overwrite_default_scope('mmseg'):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        schedulers = [
            PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=wrapper))
            for scheduler in cfg.param_scheduler
        ]
    printed = {}
    for done in range(cfg.train_cfg.max_iters):
        body, head = wrapper.get_lr()['lr']
        warm_up = 1 - (1 - min(done / 1500, 1)) * (1 - 1e-6)
        expected = 6e-5 * (1 - done / 160000) * warm_up
        assert math.isclose(body, expected, rel_tol=1e-6), done
        assert math.isclose(head, 10 * expected, rel_tol=1e-6), done
        if done + 1 in LOG:
            printed[done + 1] = f'{body:.3e}'
        for scheduler in schedulers:
            scheduler.step()
    assert printed == LOG


def test_weights_of_norms_alone_are_not_decayed(recipe):
    """Those whose name in the authors' code contains "norm": not the fusion's batch norm."""
    model, cfg = recipe
    with DefaultScope.overwrite_default_scope('mmseg'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(p): name for name, p in model.named_parameters()}
    decays = {}
    for group in optimizer.param_groups:
        (parameter,) = group['params']
        name = names[id(parameter)]
        decays[name] = group['weight_decay']
        assert group['betas'] == (0.9, 0.999)
        assert group['lr'] == pytest.approx(6e-4 if name.startswith('decode_head') else 6e-5)
    for name, decay in decays.items():
        is_norm = 'norm' in name or re.match(r'backbone\.layers\.\d\.2\.', name)
        assert decay == (0 if is_norm else 0.01), name
    assert decays['backbone.layers.3.2.weight'] == 0
    assert decays['backbone.layers.0.1.0.attn.attn.in_proj_bias'] == 0.01
    assert decays['decode_head.fusion_conv.bn.weight'] == 0.01
    assert decays['decode_head.fusion_conv.bn.bias'] == 0.01


def test_data_and_test_time_resizing(recipe):
    _, cfg = recipe
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.train_cfg.max_iters == 160000
    train = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert list(train) == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'RandomResize',
        'RandomCrop',
        'RandomFlip',
        'PhotoMetricDistortion',
        'PackSegInputs',
    ]
    assert train['LoadAnnotations'].reduce_zero_label
    resize, crop = train['RandomResize'], train['RandomCrop']
    assert (*resize.scale, *resize.ratio_range) == (2048, 512, 0.5, 2.0)
    assert (*crop.crop_size, crop.cat_max_ratio) == (512, 512, 0.75)
    assert train['RandomFlip'].prob == 0.5
    assert cfg.model.data_preprocessor.seg_pad_val == 255

    test = {step.type: step for step in cfg.test_dataloader.dataset.pipeline}
    assert list(test)[1:4] == ['Resize', 'ResizeToMultiple', 'LoadAnnotations']
    assert tuple(test['Resize'].scale) == (2048, 512)
    assert test['Resize'].keep_ratio
    assert test['ResizeToMultiple'].size_divisor == 32
    assert cfg.model.test_cfg.mode == 'whole'


def test_model(recipe):
    """MiT-B1 with drop path rising to 0.1, plain projections, BN and dropout in the head."""
    model, cfg = recipe
    assert 'mit_b1' in cfg.model.backbone.init_cfg.checkpoint
    blocks = [block for stage in model.backbone.layers for block in stage[1]]
    rates = [getattr(block.attn.dropout_layer, 'drop_prob', 0.0) for block in blocks]
    assert rates == pytest.approx([0.1 * i / 7 for i in range(8)])
    assert all(not conv.with_norm and not conv.with_activation for conv in model.decode_head.convs)
    assert type(model.decode_head.fusion_conv.bn) is nn.BatchNorm2d
    assert model.decode_head.fusion_conv.bn.eps == 1e-5
    assert type(model.decode_head.dropout) is nn.Dropout2d
    assert model.decode_head.dropout.p == 0.1
