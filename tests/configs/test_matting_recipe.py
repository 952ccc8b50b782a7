"""The published recipe of A2U Matting, as its released code trains."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS

from fade_mm.run import load_config
from fade_mm.upsamplers import named_upsamplers
from tests.tools import ROOT

NAME = 'configs/matting/a2u-matting_r34_{}_1xb16-180k_composition-1k-512x512.py'


def recipe(upsampler):
    cfg = load_config(str(ROOT / NAME.format(upsampler)))
    cfg.model.pretrained = None
    model = MODELS.build(cfg.model)
    return cfg, model, build_optim_wrapper(model, cfg.optim_wrapper)


def rates(model, optim_wrapper):
    """Learning rates, by the names of parameters."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = optim_wrapper.optimizer.param_groups
    return {names[id(p)]: group['lr'] for group in groups for p in group['params']}


def test_two_rates():
    """100 tensors of 2,236,907 parameters learn at 0.01, all others at 1e-4."""
    _, model, optim_wrapper = recipe('bilinear')
    assert type(optim_wrapper.optimizer) is torch.optim.Adam
    assert {group['weight_decay'] for group in optim_wrapper.optimizer.param_groups} == {0}
    found = rates(model, optim_wrapper)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert found.keys() == sizes.keys()
    assert {round(x, 9) for x in found.values()} == {0.01, 1e-4}
    fast = [name for name, rate in found.items() if rate > 1e-3]
    assert len(fast) == 100
    assert sum(sizes[name] for name in fast) == 2_236_907
    assert all(any(x in name for x in ('dconv', 'pred', 'short')) for name in fast)


def test_fades_own_layers_learn_at_the_lower_rate():
    _, model, optim_wrapper = recipe('fade')
    own = {id(p) for _, up in named_upsamplers(model) for p in up.parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in own}
    assert names
    assert {x for name, x in rates(model, optim_wrapper).items() if name in names} == {1e-4}


def test_schedule():
    cfg = recipe('bilinear')[0]
    assert cfg.train_cfg.max_iters == 30 * 6000
    assert cfg.train_cfg.val_interval == 6000
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = PARAM_SCHEDULERS.build(cfg.param_scheduler, default_args=dict(optimizer=optimizer))
    rates = []
    for _ in range(156_001):
        rates.append(optimizer.param_groups[0]['lr'])
        scheduler.step()
    at = [119_999, 120_000, 155_999, 156_000]
    assert [rates[i] for i in at] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_data():
    cfg = recipe('fade')[0]
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.randomness.seed == 6
    steps = [dict(x) for x in cfg.train_dataloader.dataset.pipeline]
    assert [x.pop('type').removeprefix('fade_mm.') for x in steps] == [
        'LoadForeground',
        'LoadBackground',
        'CompositeFg',
        'ResizeFg',
        'RandomAffine',
        'Flip',
        'GenerateTrimap',
        'CropAroundCenter',
        'RandomJitter',
        'MergeFgAndBg',
        'PackMattingInputs',
    ]
    arguments = {key: value for step in steps for key, value in step.items() if key != 'prob'}
    assert arguments == dict(
        scale=(0.8, 1.25), degrees=30, shear=10, flip_ratio=0.5, kernel_size=(1, 30),
        crop_size=512, hue_range=40,
    )  # fmt: skip
    assert [x['prob'] for x in steps if 'prob' in x] == [0.5, 0.25]
    assert steps[3]['scale'] == (640, 640)
    assert cfg.default_hooks.checkpoint.save_best == 'SAD'
    assert cfg.default_hooks.checkpoint.rule == 'less'


def test_small_recipe_is_one_cycle_of_its_length():
    name = 'configs/matting/a2u-matting_r34-w24_fade_1xb8-1500_matting-96x96.py'
    cfg = load_config(str(ROOT / name))
    assert cfg.model.base_channels == 3 / 8 * 64
    rises, falls = cfg.param_scheduler
    assert rises.end == falls.begin
    assert falls.begin + falls.T_max == falls.end == cfg.train_cfg.max_iters == 1500
    assert cfg.train_dataloader.batch_size == 8
    train, test = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset.datasets[0]
    assert train.holdout == test.holdout == 6
    assert test.test_mode
    assert not train.get('test_mode')
