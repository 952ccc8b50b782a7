"""Every config builds, trains one step and predicts, on tiny input and without weights."""

import inspect
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvTranspose2d
from mmcv.cnn.bricks.upsample import PixelShufflePack
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from fade_mm.engine import load_config
from fade_mm.registry import MODELS as OURS
from fade_mm.upsamplers import A2U, CARAFE, FADE, SAPA, DySample, FADELite, IndexNet, Unguided

ROOT = Path(__file__).parents[2] / 'configs'
CONFIGS = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob('*/*.py') if path.parent.name != '_base_'
)
MAIN = {'fade-lite': FADELite, 'fade': FADE, 'carafe': CARAFE}
COMPETITORS = {
    'deconv': ConvTranspose2d,
    'pixel-shuffle': PixelShufflePack,
    'indexnet': IndexNet,
    'a2u': A2U,
    **{f'sapa-{variant}': SAPA for variant in 'ibg'},
    **{f'dysample{variant}': DySample for variant in ('', '-plus', '-s', '-s-plus')},
}
ABLATION = {f'fade-b{row}': FADE for row in range(1, 7)}
TAGS = MAIN | COMPETITORS | ABLATION | {'indexnet-m2o': IndexNet}
TAGS['mit-b0_nearest'] = torch.nn.Upsample  # elsewhere nearest is the host's own, without a layer
LAYERS = {'segformer': 6, 'retinanet': 2, 'mask2former': 1}  # elsewhere three


def build(name):
    """The model of a config without pretrained weights, and the config."""
    cfg = load_config(str(ROOT / name))
    cfg.model.backbone.init_cfg = None
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 96)
    if cfg.model.backbone.type == 'SwinTransformer':  # Swin-B takes seconds
        cfg.model.backbone.update(embed_dims=16, depths=[1] * 4, num_heads=[1, 2, 4, 8])
        head = cfg.model.decode_head
        head.update(in_channels=[16, 32, 64, 128], num_queries=10)
        head.transformer_decoder.num_layers = 2
        head.train_cfg.num_points = 64
    if 'roi_head' in cfg.model:  # as few regions as will do
        cfg.model.train_cfg.rcnn.sampler.num = 16
        cfg.model.train_cfg.rpn_proposal.max_per_img = 32
        cfg.model.test_cfg.rpn.max_per_img = 32
        cfg.model.test_cfg.rcnn.max_per_img = 4
    scope = DefaultScope.get_instance(name, scope_name=cfg.default_scope)
    with DefaultScope.overwrite_default_scope(scope.scope_name):
        model = MODELS.build(cfg.model)
    return model, cfg


def segmentation_batch(classes):
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        labels = torch.randint(0, classes, (1, 64, 96))
        meta = dict(img_shape=(64, 96), ori_shape=(64, 96))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta))
    return samples


def detection_batch(classes):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for _ in range(2):
        masks = np.zeros((2, 64, 96), np.uint8)
        masks[0, 8:40, 8:56] = masks[1, 20:60, 30:90] = 1
        truth = InstanceData(
            bboxes=torch.tensor([[8.0, 8, 56, 40], [30, 20, 90, 60]]),
            labels=torch.tensor([0, classes - 1]),
            masks=BitmapMasks(masks, 64, 96),
        )
        stuff = PixelData(sem_seg=torch.randint(0, 53, (1, 64, 96)))
        meta = dict(img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1.0, 1.0), img_id=0)
        samples.append(DetDataSample(gt_instances=truth, gt_sem_seg=stuff, metainfo=meta))
    return samples


@pytest.mark.parametrize('name', CONFIGS)
def test_config_trains_a_step_and_predicts(name):
    torch.manual_seed(0)
    model, cfg = build(name)
    batch = segmentation_batch if cfg.default_scope == 'mmseg' else detection_batch
    if cfg.default_scope == 'mmseg':
        classes = model.decode_head.num_classes
    else:
        classes = getattr(model, 'roi_head', model).bbox_head.num_classes
    images = [torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8) for _ in range(2)]
    ups = [m for m in model.modules() if getattr(m, 'is_upsampler', False)]

    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = [p.detach().clone() for p in model.parameters()]
    model.train()
    losses = model.train_step(dict(inputs=images, data_samples=batch(classes)), optim_wrapper)
    assert torch.isfinite(losses['loss'])
    changed = [
        not torch.equal(a, b)
        for a, b in zip(before, model.parameters(), strict=True)
        if b.requires_grad
    ]
    assert sum(changed) > 0.5 * len(changed)

    model.eval()
    results = model.test_step(dict(inputs=images, data_samples=batch(classes)))
    assert len(results) == 2
    panoptic = 'panoptic' in name
    prediction = 'pred_panoptic_seg' if panoptic else 'pred_instances'
    assert ('pred_sem_seg' if cfg.default_scope == 'mmseg' else prediction) in results[0]

    for upsampler in upsample_cfgs(cfg.model):
        accepted = inspect.signature(OURS.get(upsampler['type'])).parameters
        assert set(upsampler) - {'type'} <= set(accepted)
    tag = next((tag for tag in TAGS if f'_{tag}_' in name), None)
    if tag:
        layers = [up.layer if isinstance(up, Unguided) else up for up in ups]
        assert {type(layer) for layer in layers} == {TAGS[tag]}
        assert len(layers) == LAYERS.get(name.split('/')[0], 3)
    else:
        assert not ups


def upsample_cfgs(node):
    """The configs of upsamplers anywhere in a config."""
    if isinstance(node, dict):
        if 'type' in (node.get('upsample_cfg') or {}):
            yield node['upsample_cfg']
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from upsample_cfgs(child)


def models_of(path):
    """What a config and those of ours that it inherits say of the model, each file alone."""
    own = runpy.run_path(str(path))
    yield own.get('model')
    bases = own.get('_base_', [])
    for base in [bases] if isinstance(bases, str) else bases:
        if '::' not in base:
            yield from models_of(path.parent / base)


@pytest.mark.parametrize('name', CONFIGS)
def test_no_other_upsampler_is_inherited_from(name):
    assert len(list(upsample_cfgs(list(models_of(ROOT / name))))) <= 1


@pytest.mark.parametrize('tag', sorted(MAIN))
def test_every_host_has_a_config(tag):
    expected = {
        f'segformer/segformer_mit-b0_{tag}_8xb2-160k_ade20k-512x512.py',
        f'segformer/segformer_mit-b1_{tag}_1xb16-160k_ade20k-512x512.py',
        f'upernet/upernet_r50_{tag}_4xb4-160k_ade20k-512x512.py',
        f'sem_fpn/fpn_r50_{tag}_4xb4-160k_ade20k-512x512.py',
        f'retinanet/retinanet_r50_fpn_{tag}_1x_coco.py',
        f'panoptic_fpn/panoptic-fpn_r50_fpn_{tag}_1x_coco.py',
        *(
            f'{host}/{host}_swin-b-in22k-384x384-pre_{tag}_8xb2-160k_ade20k-640x640.py'
            for host in ('maskformer', 'mask2former')
        ),
        *(f'faster_rcnn/faster-rcnn_{d}_fpn_{tag}_1x_coco.py' for d in ('r50', 'r101')),
        *(f'mask_rcnn/mask-rcnn_{d}_fpn_{tag}_1x_coco.py' for d in ('r50', 'r101')),
    }
    assert expected <= set(CONFIGS)


@pytest.mark.parametrize('tag', sorted(COMPETITORS))
def test_every_competitor_has_a_config(tag):
    expected = {
        f'segformer/segformer_mit-b1_{tag}_1xb16-160k_ade20k-512x512.py',
        f'segformer/segformer_mit-b0_{tag}_1xb4-1500_camvid-256x256.py',
        f'faster_rcnn/faster-rcnn_r50_fpn_{tag}_1x_coco.py',
        f'mask_rcnn/mask-rcnn_r50_fpn_{tag}_1x_coco.py',
    }
    assert expected <= set(CONFIGS)


@pytest.mark.parametrize(
    ('tag', 'parameters'),
    [
        ('carafe', '+0.44M'),
        ('indexnet', '+12.60M'),
        ('indexnet-m2o', '+6.29M'),
        ('a2u', '+0.12M'),
        ('sapa-i', '+0.01M'),
        ('sapa-b', '+0.10M'),
        ('sapa-g', '+0.16M'),
        ('fade', '+0.29M'),
        ('fade-lite', '+0.08M'),
        ('fade-b2', '+0.44M'),
        ('fade-b6', '+0.29M'),
    ],
)
def test_published_parameters_over_bilinear(tag, parameters):
    name = 'segformer/segformer_mit-b1_{}_1xb16-160k_ade20k-512x512.py'
    ours, base = (
        sum(p.numel() for p in build(name.format(x))[0].parameters()) for x in (tag, 'bilinear')
    )
    assert f'{(ours - base) / 1e6:+.2f}M' == parameters


@pytest.mark.parametrize(
    ('tag', 'parameters'),
    [
        ('carafe', '+0.22M'),
        ('indexnet', '+6.30M'),
        ('a2u', '+0.03M'),
        ('sapa-i', '+0.00M'),
        ('sapa-b', '+0.05M'),
    ],
)
def test_published_parameters_over_nearest(tag, parameters):
    name = f'faster_rcnn/faster-rcnn_r50_fpn_{tag}_1x_coco.py'
    ups = sum(p.numel() for p in build(name)[0].neck.upsamplers.parameters())
    assert f'{ups / 1e6:+.2f}M' == parameters
