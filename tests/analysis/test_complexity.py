"""Counts of whole models against counts by hand and against the hosts' known figures."""

from contextlib import nullcontext

import pytest
import torch
from mmengine.analysis import FlopAnalyzer

from fade_mm.analysis.complexity import (
    HostCount,
    count_flops,
    count_parameters,
    predicting_model,
)
from fade_mm.analysis.flops import count_as_published
from fade_mm.hosts import host_of
from fade_mm.run import SetupError, load_config

SEGFORMER_B0 = 'configs/segformer/segformer_mit-b0_{}_1xb4-1500_camvid-256x256.py'
MASK_RCNN = 'configs/mask_rcnn/mask-rcnn_r18_fpn_{}_1xb4-5e_shapes-128x128.py'
SHAPE = (64, 96)


def model(template, upsampler):
    return predicting_model(load_config(template.format(upsampler)))


def single_pass(counted):
    return host_of(counted).single_pass(counted, SHAPE)


@pytest.mark.parametrize('template', [SEGFORMER_B0, MASK_RCNN])
def test_a_host_and_other_upsamplers_count_as_the_whole_model_does(template):
    fade = model(template, 'fade')
    host_count = HostCount(fade, SHAPE)
    stock = 'bilinear' if template == SEGFORMER_B0 else 'nearest'
    image = (torch.rand(1, 3, *SHAPE),)
    counts = []
    for other in (fade, model(template, stock)):
        counts.append(host_count(other))
        assert counts[-1] == count_as_published(single_pass(other), image)
    assert counts[0] > counts[1]


def test_a_host_and_unguided_upsamplers_too():
    host_count = HostCount(model(SEGFORMER_B0, 'fade'), SHAPE)
    deconv = model(SEGFORMER_B0, 'deconv')
    assert host_count(deconv) == count_as_published(
        single_pass(deconv), (torch.rand(1, 3, *SHAPE),)
    )


@pytest.mark.parametrize(
    ('template', 'option'),
    [
        (SEGFORMER_B0, 'model.decode_head.upsample_cfg.type'),
        (MASK_RCNN, 'model.neck.upsample_cfg.type'),
    ],
)
def test_an_encoder_feature_that_the_upsampler_changes_counts_where_the_host_merges_it(
    template, option
):
    freqfusion = predicting_model(load_config(template.format('fade'), {option: 'freqfusion'}))
    counted = HostCount(model(template, 'fade'), SHAPE)(freqfusion)
    assert counted == count_as_published(single_pass(freqfusion), (torch.rand(1, 3, *SHAPE),))


def test_both_stages_of_a_detector_count():
    detector = model(MASK_RCNN, 'nearest')
    modules = FlopAnalyzer(single_pass(detector), (torch.rand(1, 3, *SHAPE),)).by_module()
    channels, stride = 128, 4
    points = sum((64 // stride // 2**i) * (96 // stride // 2**i) for i in range(4))
    points += 1 * 2  # the fifth level takes every second point of the fourth, 2x3, rounded up
    assert modules['model.rpn_head.rpn_conv'] == points * 9 * channels**2
    head = detector.roi_head.bbox_head
    linear = sum(m.weight.numel() for m in head.modules() if isinstance(m, torch.nn.Linear))
    assert modules['model.roi_head.bbox_head'] == 1000 * linear
    mask_head = detector.roi_head.mask_head
    per_point = sum(c.conv.weight.numel() for c in mask_head.convs) + 4 * (
        mask_head.upsample.weight.numel() // 4 + mask_head.conv_logits.weight.numel()
    )
    assert modules['model.roi_head.mask_head'] == 100 * 14 * 14 * per_point


@pytest.mark.parametrize(
    'config',
    [
        'mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py',
        'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
        'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
        'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
        'mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py',
        'mmdet::fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py',
        'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',  # no plain forward, nor the next two
        'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
        'mmseg::point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py',
    ],
)
def test_stock_models_of_both_libraries_are_counted(config):
    stock = predicting_model(load_config(config))
    assert getattr(stock, 'auxiliary_head', None) is None
    assert count_flops(stock, SHAPE) > 1e8
    assert count_parameters(stock) > 2e7


def test_an_image_that_is_too_small_is_the_users_to_mend():
    with pytest.raises(SetupError, match="cannot be counted at 5 x 7:\n  mode='tensor': Runtime"):
        count_flops(model(SEGFORMER_B0, 'fade'), (5, 7))


def test_pictures_may_have_other_channels():
    """Those of the first convolution, 7x7 at a quarter of the size."""
    counts = [
        count_flops(
            predicting_model(
                load_config(SEGFORMER_B0.format('fade'), {'model.backbone.in_channels': channels})
            ),
            SHAPE,
        )
        for channels in (3, 4)
    ]
    assert counts[1] - counts[0] == 32 * 7 * 7 * SHAPE[0] * SHAPE[1] // 16


def test_a_model_that_cannot_be_built_is_the_users_to_mend():
    cfg = load_config(SEGFORMER_B0.format('fade'), {'model.decode_head.upsample_cfg.kernel': 5})
    with pytest.raises(SetupError, match=r"the model cannot be built.*'kernel'"):
        predicting_model(cfg)


def state(model, image):
    """All of a model that counting might change: modes, weights, methods, hooks, and its output."""
    torch.manual_seed(0)
    with torch.no_grad():
        output = model(image, mode='tensor') if hasattr(model, 'decode_head') else ()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    modules = {
        name: (module.training, sorted(vars(module)), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    }
    return output, weights, modules


@pytest.mark.parametrize('fails', [False, True], ids=['counted', 'refused'])
@pytest.mark.parametrize(
    'name',
    [
        SEGFORMER_B0.format('fade'),
        MASK_RCNN.format('fade'),
        'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',  # its proposals are learned
    ],
)
def test_a_model_stays_as_it_was(name, fails, monkeypatch):
    counted = predicting_model(load_config(name))
    counted.backbone.train()
    image = torch.rand(1, 3, *SHAPE)
    before = state(counted, image)
    with monkeypatch.context() as patch:
        if fails:
            patch.setattr(type(counted.backbone), 'forward', lambda *args, **kwargs: 1 / 0)
        # Sparse R-CNN has no plain forward, so only the first can count it.
        for count in (count_flops,) if 'sparse' in name else (count_flops, HostCount):
            with pytest.raises((SetupError, ZeroDivisionError)) if fails else nullcontext():
                count(counted, SHAPE)
    after = state(counted, image)
    torch.testing.assert_close(after[:2], before[:2], rtol=0, atol=0)
    assert after[2] == before[2]
