"""Rates of upsamplers by their class, and which direction of a score is better."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim import build_optim_wrapper
from torch import nn

from fade_mm.errors import SetupError
from fade_mm.run.mmengine_fixes import check_scores, tell_rules
from fade_mm.upsamplers import build_upsampler
from tests.layers import every_upsampler


def rates(cfg, **paramwise):
    """The learning rate and weight decay of each parameter of a layer between two others."""
    torch.manual_seed(0)
    up = build_upsampler(cfg, 8, 8)
    model = nn.ModuleDict(dict(first=nn.Conv2d(3, 8, 1), up=up, last=nn.Conv2d(8, 2, 1)))
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.01),
            constructor='fade_mm.UpsamplerOptimWrapperConstructor',
            paramwise_cfg=paramwise,
        ),
    )
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        for p in group['params']:
            found[names[id(p)]] = group['lr'], group['weight_decay']
    assert set(found) == set(names.values())
    return found


@every_upsampler
def test_all_parameters_of_every_upsampler_have_its_rates(cfg):
    found = rates(cfg, upsampler=dict(lr_mult=0.5, decay_mult=0.0))
    for name, rate in found.items():
        assert rate == ((0.05, 0.0) if name.startswith('up.') else (0.1, 0.01)), name


def test_other_options_count_too():
    found = rates(
        dict(type='carafe'),
        upsampler=dict(lr_mult=0.5),
        custom_keys=dict(content_encoder=dict(lr_mult=4.0), first=dict(lr_mult=3.0)),
        bias_decay_mult=0.0,
    )
    lr = {name: pytest.approx(rate) for name, (rate, _) in found.items()}
    assert lr['first.weight'] == 0.3
    assert lr['up.layer.content_encoder.weight'] == 0.2
    assert lr['up.layer.channel_compressor.weight'] == 0.05
    assert found['up.layer.channel_compressor.bias'][1] == 0
    assert rates(dict(type='fade'))['up.gate_generator.conv.weight'] == (0.1, 0.01)


def test_a_misspelt_option_is_refused():
    with pytest.raises(ValueError, match='upsampler takes lr_mult and decay_mult, got lr'):
        rates(dict(type='fade'), upsampler=dict(lr=0.5))


def config(evaluator, **hook):
    return Config(
        dict(
            val_evaluator=evaluator,
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', **hook)),
            custom_hooks=[dict(type='EarlyStoppingHook', monitor='mBIoU')],
            default_scope='mmseg',
        )
    )


BOUNDARY = dict(type='fade_mm.BoundaryIoUMetric')
IOU = dict(type='IoUMetric')


@pytest.mark.parametrize('evaluator', [BOUNDARY, [IOU, BOUNDARY], dict(metrics=[BOUNDARY])])
def test_more_boundary_iou_is_better(evaluator):
    cfg = config(evaluator, save_best='mBIoU')
    tell_rules(cfg)
    cfg.default_hooks.checkpoint.pop('type')
    assert CheckpointHook(**cfg.default_hooks.checkpoint).rules == ['greater']
    assert cfg.custom_hooks[0].rule == 'greater'
    assert EarlyStoppingHook('mBIoU', rule=cfg.custom_hooks[0].rule).rule == 'greater'


@pytest.mark.parametrize(
    ('evaluator', 'asked', 'rule'),
    [
        (BOUNDARY, 'auto', 'greater'),
        ([IOU, BOUNDARY], 'auto', None),  # mmengine knows that one
        (dict(BOUNDARY, prefix='fine'), 'fine/mBIoU', 'greater'),
        ([IOU, BOUNDARY], ['mBIoU'], ['greater']),
        ([IOU, BOUNDARY], 'mIoU', None),
    ],
)
def test_mmengine_is_left_what_it_knows(evaluator, asked, rule):
    cfg = config(evaluator, save_best=asked)
    tell_rules(cfg)
    assert cfg.default_hooks.checkpoint.get('rule') == rule


def test_a_rule_that_is_given_stays():
    cfg = config(BOUNDARY, save_best='mBIoU', rule='less')
    tell_rules(cfg)
    assert cfg.default_hooks.checkpoint.rule == 'less'


def test_a_hook_that_goes_by_no_score_is_told():
    best = CheckpointHook(save_best=['mIoU', 'mBIou'], rule='greater')
    stop = EarlyStoppingHook('mBIou', rule='greater', strict=True)
    for hook in (best, stop):
        message = f"{type(hook).__name__} goes by 'mBIou', but .* are mIoU, mBIoU"
        with pytest.raises(SetupError, match=message):
            check_scores([hook], dict(mIoU=1.0, mBIoU=2.0))
    goes_on = EarlyStoppingHook('mBIou', rule='greater')  # and mmengine warns
    right = CheckpointHook(save_best='auto'), CheckpointHook(save_best='mIoU', rule='greater')
    check_scores([CheckpointHook(), goes_on, *right], dict(mIoU=1.0))
