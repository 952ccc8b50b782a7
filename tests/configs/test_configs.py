"""Every config builds, trains one step and predicts, on tiny input and without weights."""

import inspect
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from fade_mm.run import load_config
from fade_mm.upsamplers import PRESETS, UPSAMPLERS, AsUpsampler, named_upsamplers

ROOT = Path(__file__).parents[2] / 'configs'
ELSEWHERE = ('_base_', 'own_data')  # the latter in test_own_data_page.py
CONFIGS = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob('*/*.py') if path.parent.name not in ELSEWHERE
)
LAYERS = {
    'segformer': 6,
    'matting': 4,
    'retinanet': 2,
    'mask2former': 1,
    'carafe_nearest': 0,
    'fpn-carafe': 4,
    'bts': 4,
    'unet-depth': 4,
    'yolox': 2,
    'rtmdet': 2,
}
"""Of a host model, by a part of its configs' names; the others have three."""
HOSTS_OWN = ('bilinear', 'nearest')  # in files' names: the host model without an upsampler
SHORT = {'a2u_published': 'a2u', 'deconv3': 'deconv', 'pixel_shuffle3': 'pixel-shuffle'}


def tag(upsampler):
    """What a config's file name calls an upsampler."""
    return SHORT.get(upsampler, upsampler.replace('_', '-'))


TAGS = sorted({tag(name) for name in UPSAMPLERS if name not in HOSTS_OWN} - {'sapa'})  # is sapa_b
EVERYWHERE = ('carafe', 'fade', 'fade-lite')
ONLY_SEGFORMER = (
    'freqfusion-segnext',
    'indexnet-m2o',
    *(f'fade-b{row}' for row in range(1, 7)),
)
ONLY_MATTING = ('indexnet-matting',)
CONTROLS = ('depthwise',)  # without a publication
COMPETITORS = [x for x in TAGS if x not in EVERYWHERE + ONLY_SEGFORMER + ONLY_MATTING + CONTROLS]


def build(name):
    """The model of a config without pretrained weights, and the config."""
    cfg = load_config(str(ROOT / name))
    if name.startswith('matting'):
        width = 32 if 'a2u_published' in str(cfg.model) else 8  # that its groups divide
        cfg.model.update(pretrained=None, base_channels=width)
        return MODELS.build(cfg.model), cfg
    cfg.model.backbone.init_cfg = None
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 96)
    if cfg.model.backbone.type == 'SwinTransformer':  # Swin-B takes seconds
        cfg.model.backbone.update(embed_dims=16, depths=[1] * 4, num_heads=[1, 2, 4, 8])
        head = cfg.model.decode_head
        head.update(in_channels=[16, 32, 64, 128], num_queries=10)
        head.transformer_decoder.num_layers = 2
        head.train_cfg.num_points = 64
    if 'batch_augments' in cfg.model.get('data_preprocessor', {}):
        cfg.model.data_preprocessor.batch_augments = None  # they resize to 480 at least
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


def depth_batch(classes):
    samples = segmentation_batch(classes)
    for sample in samples:
        del sample.gt_sem_seg
        sample.gt_depth_map = PixelData(data=0.5 + 9 * torch.rand(1, 64, 96))
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


def boxes_batch(classes):
    """RTMDet looks at masks as soon as there are any."""
    samples = detection_batch(classes)
    for sample in samples:
        del sample.gt_instances.masks
    return samples


def matting_batch(_):
    from fade_mm.hosts.matting.sample import MattingSample

    samples = []
    for _ in range(2):
        sample = MattingSample(
            trimap=torch.tensor([0, 128, 255], dtype=torch.uint8).repeat(1, 64, 32)
        )
        sample.set_data(dict(gt_alpha=torch.rand(1, 64, 96)))
        sample.set_data({key: 255 * torch.rand(3, 64, 96) for key in ('gt_fg', 'gt_bg')})
        samples.append(sample)
    return samples


BATCHES = {
    'mmseg': segmentation_batch,
    'mmdet': detection_batch,
    'mmengine': matting_batch,
    'depth': depth_batch,
}
RESULTS = {
    'mmseg': 'pred_sem_seg',
    'mmdet': 'pred_instances',
    'mmengine': 'pred_alpha',
    'depth': 'pred_depth_map',
}


@pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=() if '_fade_' in name else pytest.mark.slow) for name in CONFIGS],
)
def test_config_trains_a_step_and_predicts(name):
    torch.manual_seed(0)
    model, cfg = build(name)
    kind = 'depth' if cfg.model.type == 'DepthEstimator' else cfg.default_scope
    batch = boxes_batch if 'rtmdet_' in name else BATCHES[kind]
    heads = [getattr(model, 'roi_head', model), model]
    heads = [getattr(x, part, None) for x in heads for part in ('bbox_head', 'decode_head')]
    classes = next((head.num_classes for head in heads if head is not None), None)
    images = [torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8) for _ in range(2)]
    ups = [up for _, up in named_upsamplers(model)]

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
    prediction = 'pred_panoptic_seg' if panoptic else RESULTS[kind]
    assert prediction in results[0]

    layers = [up.layer if isinstance(up, AsUpsampler) else up for up in ups]
    count = next((count for part, count in LAYERS.items() if part in name), 3)
    expected = []
    for upsampler in upsample_cfgs(cfg.model):
        kind = upsampler['type']
        assert set(upsampler) - {'type'} <= set(inspect.signature(UPSAMPLERS[kind]).parameters)
        layer = UPSAMPLERS[PRESETS.get(kind, upsampler)['type']]
        expected += [layer] * count
    assert [type(layer) for layer in layers] == expected


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
def test_a_config_says_one_upsampler_which_its_name_says_too(name):
    asked = [upsampler['type'] for upsampler in upsample_cfgs(list(models_of(ROOT / name)))]
    said = [tag(x) for x in asked if x not in HOSTS_OWN]
    assert said == [x for x in TAGS if f'_{x}_' in name]  # one at most: none is inherited


@pytest.mark.parametrize('tag', EVERYWHERE)
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
        f'matting/a2u-matting_r34_{tag}_1xb16-180k_composition-1k-512x512.py',
        f'matting/a2u-matting_r34-w24_{tag}_1xb8-1500_matting-96x96.py',
        *(f'faster_rcnn/faster-rcnn_{d}_fpn_{tag}_1x_coco.py' for d in ('r50', 'r101')),
        *(f'mask_rcnn/mask-rcnn_{d}_fpn_{tag}_1x_coco.py' for d in ('r50', 'r101')),
    }
    assert expected <= set(CONFIGS)


@pytest.mark.parametrize('tag', [x for x in TAGS if x not in ONLY_MATTING + CONTROLS])
def test_every_upsampler_has_a_config(tag):
    assert f'segformer/segformer_mit-b1_{tag}_1xb16-160k_ade20k-512x512.py' in CONFIGS


@pytest.mark.parametrize('tag', COMPETITORS)
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


@pytest.mark.parametrize('tag', ['nearest', 'carafe', 'indexnet', 'a2u', 'sapa-b', 'sapa-g'])
def test_every_published_row_of_bts_has_a_config(tag):
    assert f'bts/bts_r50_{tag}_1xb4-50e_nyu-416x544.py' in CONFIGS
