"""The SegFormer and UPerNet heads against their hosts and the paper's scheme."""

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from mmseg.models.decode_heads import UPerHead as MMSegUPerHead
from torch import nn

from fade_mm.hosts.stand_ins import SegformerHead, UPerHead

CHANNELS = [4, 8, 16, 32]
ARGUMENTS = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3], channels=16, num_classes=5)


def features(height=32, width=48):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, c, -(-height // 2**i), -(-width // 2**i), generator=generator)
        for i, c in enumerate(CHANNELS)
    )


def test_uper_head_with_bilinear_layers_is_the_host():
    """At even sizes mmcv's bilinear layer equals the host's resize, so the rest must too."""
    theirs = MMSegUPerHead(**ARGUMENTS).eval()
    mine = UPerHead(**ARGUMENTS, upsample_cfg=dict(type='bilinear')).eval()
    mine.load_state_dict(theirs.state_dict(), strict=True)
    x = features()
    assert torch.equal(mine(x), theirs(x))


@pytest.mark.parametrize(
    'cfg', ['fade', 'fade_lite', 'carafe', 'nearest', 'bilinear'], ids=lambda x: x
)
def test_segformer_takes_six_steps_guided_by_the_next_finer_level(cfg):
    head = SegformerHead(**ARGUMENTS, upsample_cfg=dict(type=cfg)).eval()
    x = features(33, 47)
    c1, c2, c3, c4 = (conv(f) for conv, f in zip(head.convs, x, strict=True))
    up = head.upsamplers
    c4 = up[2](c1, up[1](c2, up[0](c3, c4)))
    c3 = up[4](c1, up[3](c2, c3))
    c2 = up[5](c1, c2)
    expected = head.conv_seg(head.fusion_conv(torch.cat([c1, c2, c3, c4], dim=1)))
    assert len(up) == 6
    assert torch.equal(head(x), expected)


def segformer_b1(**kwargs):
    b1 = dict(in_channels=[64, 128, 320, 512], channels=256, num_classes=150)
    return SegformerHead(**ARGUMENTS | b1, norm_cfg=dict(type='BN'), **kwargs)


@pytest.mark.parametrize(
    ('cfg', 'published'), [('fade', 285_084), ('fade_lite', 79_992), ('carafe', 444_888)]
)
def test_published_parameters_over_the_baseline(cfg, published):
    def count(head):
        return sum(p.numel() for p in head.parameters())

    with_ups = segformer_b1(upsample_cfg=dict(type=cfg), plain_projections=True)
    assert count(with_ups) - count(segformer_b1(plain_projections=True)) == published


def test_authors_head_has_plain_projections():
    """13.74M parameters in all: MiT-B1, this head, and the 19,350 that the authors never use."""
    head = segformer_b1(plain_projections=True)
    for conv, channels in zip(head.convs, (64, 128, 320, 512), strict=True):
        assert [type(m) for m in conv.children()] == [nn.Conv2d]
        assert conv.conv.weight.shape == (256, channels, 1, 1)
        assert conv.conv.bias is not None
    from mmseg.models.backbones import MixVisionTransformer

    backbone = MixVisionTransformer(
        embed_dims=64, num_layers=[2, 2, 2, 2], num_heads=[1, 2, 5, 8], sr_ratios=[8, 4, 2, 1]
    )
    total = sum(p.numel() for p in (*backbone.parameters(), *head.parameters())) + 19_350
    assert round(total / 1e6, 2) == 13.74


def test_flops_of_the_whole_head_are_counted():
    """The operator's share is in the analyser's total: K*K*C + 2*C per output point."""
    head = SegformerHead(**ARGUMENTS, upsample_cfg=dict(type='fade')).eval()
    counts = FlopAnalyzer(head, (features(32, 32),)).by_operator()
    points = 2 * (8 * 8 + 2 * 16 * 16 + 3 * 32 * 32)
    assert counts['gated_reassemble'] == points * 16 * (25 + 2)
