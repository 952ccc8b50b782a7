"""Multiply-adds against the papers' complexity columns for SegFormer-B1 at 512x512."""

import pytest
import torch

from fade_mm.upsamplers import build_upsampler

pytest.importorskip('mmengine')

from mmengine.registry import MODELS, DefaultScope

from fade_mm.analysis.flops import count_as_published
from fade_mm.run import load_config

SEGFORMER_B1 = 'configs/segformer/segformer_mit-b1_{}_1xb16-160k_ade20k-512x512.py'
PUBLISHED = [
    (dict(type='carafe'), 1.453),
    (dict(type='indexnet'), 30.647),
    (dict(type='a2u'), 0.408),
    (dict(type='a2u', downsampling=False), 0.408),
    (dict(type='sapa', similarity='inner'), 0.747),
    (dict(type='sapa'), 1.018),
    (dict(type='fade'), 2.653),
    (dict(type='fade', kernel_generation='semi-shift-h2l'), 2.653),
    (dict(type='fade', kernel_source='decoder', fusion='none'), 1.453),
]


def name(value):
    return '-'.join(map(str, value.values())) if isinstance(value, dict) else ''


@pytest.mark.parametrize(('cfg', 'published'), PUBLISHED, ids=name)
def test_published_gflops_of_the_six_upsamplers(cfg, published):
    up = build_upsampler(cfg, 256, 256)
    counts = {
        h: count_as_published(up, (torch.rand(1, 256, h, h), torch.rand(1, 256, h // 2, h // 2)))
        for h in (32, 64, 128)
    }
    total = counts[32] + 2 * counts[64] + 3 * counts[128]
    assert total / 1e9 == pytest.approx(published, abs=6e-4)


def test_published_gflops_of_fade_lite():
    up = build_upsampler(dict(type='fade_lite'), 256, 256)
    points = 32**2 + 2 * 64**2 + 3 * 128**2
    count = count_as_published(up, (torch.rand(1, 256, 32, 32), torch.rand(1, 256, 16, 16)))
    assert round(count * points / 32**2 / 1e9, 4) == 0.8905


def segformer_b1(upsampler):
    cfg = load_config(SEGFORMER_B1.format(upsampler))
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg.model)


def test_published_gflops_of_the_whole_model():
    image = (torch.rand(1, 3, 512, 512),)
    base, fade = (count_as_published(segformer_b1(name), image) for name in ('bilinear', 'fade'))
    assert round(base / 1e9, 2) == 15.91
    assert round((fade - base) / 1e9, 3) == 2.653
