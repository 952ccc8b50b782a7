"""Weights in the layouts that people have, and names that nobody has registered."""

import pytest
import torch
from torch import nn

from fade_mm.errors import SetupError
from fade_mm.run import build_model, load_config, load_fitting
from tests.tools import BCCD, CAMVID, bccd_options, camvid_options, config, run


def model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def put_before(prefix, state_dict):
    return {f'{prefix}{key}': value for key, value in state_dict.items()}


LAYOUTS = {
    'plain': lambda x: x,
    'state_dict': lambda x: dict(state_dict=x, meta={}),
    'data parallel': lambda x: dict(state_dict=put_before('module.', x)),
    'compiled': lambda x: dict(model=put_before('_orig_mod.', x), epoch=3),
    'both': lambda x: dict(model=put_before('module._orig_mod.', x)),
    'lightning': lambda x: {'state_dict': put_before('model.', x), 'pytorch-lightning_version': ''},
    'average': lambda x: dict(params_ema=x, iteration=7),
    'beside an average': lambda x: dict(model=x, model_ema=put_before('', model(2).state_dict())),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_usual_layouts_load(layout):
    ours, theirs = model(0), model(1)
    load_fitting(ours, LAYOUTS[layout](theirs.state_dict()))
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_file_without_weights_is_told_by_what_it_holds():
    with pytest.raises(SetupError, match=r'has epoch \(int\), optimizer \(dict\)'):
        load_fitting(model(0), dict(epoch=1, optimizer={}))


@pytest.mark.parametrize('fits', [False, True])
def test_a_backbone_of_which_the_stem_alone_fits_stops(fits, segmentation_root, tmp_path):
    weights = tmp_path / 'backbone.pth'
    own = build_model(load_config(str(config(CAMVID, 'bilinear')))).backbone.state_dict()
    stem = {name: x + 0.1 for name, x in own.items() if fits or name.startswith('layers.0.0.')}
    torch.save({**stem, 'somebody.elses.weight': torch.randn(5, 5)}, weights)
    start = {'model.backbone.init_cfg.type': 'Pretrained'}
    start['model.backbone.init_cfg.checkpoint'] = weights
    options = list(camvid_options(segmentation_root, 1, **start))
    command = ['train', config(CAMVID, 'bilinear'), '--work-dir', tmp_path / 'w', '--cfg-options']
    if fits:
        run(*command, *options)
        return
    message = r'weights of model\.backbone are not in .*backbone\.pth.* has somebody\.elses\.weight'
    with pytest.raises(SystemExit, match=message):
        run(*command, *options)
    run(*command, *options, 'check_pretrained=False')


def slow(*arguments):
    return pytest.param(*arguments, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('train_dataloader.dataset.type=CocoDatset', r"dataset .*; there is mmdet\.Coco"),
        slow('train_dataloader.dataset.pipeline.1.type=Resise', r"'Resise'; there is .*Resize"),
        slow('val_evaluator.type=CocoMetrik', r"metric .*'CocoMetrik'; there is mmdet\.CocoMetric"),
        slow('default_hooks.timer.type=IterTimerHok', r"hook .*; there is IterTimerHook"),
        slow('visualizer.vis_backends.0.type=WandbVisBackend', 'wandb'),
        ('optim_wrapper.optimizer.type=AdamWW', r"optimizer .*'AdamWW'; there is AdamW"),
        slow('model.neck.type=fade_mm.Fpn', r"'fade_mm\.Fpn'; there is fade_mm\.FPN"),
        slow('model.type=FasterRCN', r"there is no mmdet\.FasterRCN"),
        slow('visualizer.type=DetVisualiser', r"visualizer .*"),
        ('train_dataloader.collate_fn.type=pseudo_colate', r"'pseudo_colate'; there is pseudo"),
        slow('default_hooks.checkpoint.save_best=coco/segm_map',
             r"CheckpointHook goes by 'coco/segm_map', but .* are coco/bbox_mAP, "),
        ('train_dataloader.dataset.pipeline.1.scael=(1,1)', r"unexpected keyword argument 'scael'"),
    ],
)  # fmt: skip
def test_a_misspelt_name_ends_in_one_line(option, message, detection_root, tmp_path):
    with pytest.raises(SystemExit, match=f'^error: .*{message}') as stop:
        run(
            'train', config(BCCD, 'fade'), '--work-dir', tmp_path,
            '--cfg-options', *bccd_options(detection_root), option,
        )  # fmt: skip
    assert '\n' not in str(stop.value)
