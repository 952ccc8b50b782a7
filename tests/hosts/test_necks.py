"""The FPN necks, and those with a bottom-up path, against their hosts."""

import pytest
import torch
from mmdet.models.necks import FPN as MMDetFPN
from mmdet.models.necks import PAFPN as MMDetPAFPN
from mmdet.models.necks import YOLOXPAFPN as MMDetYOLOXPAFPN
from mmdet.models.necks import CSPNeXtPAFPN as MMDetCSPNeXtPAFPN
from mmseg.models.necks import FPN as MMSegFPN

from fade_mm.hosts.stand_ins import FPN, PAFPN, YOLOXPAFPN, CSPNeXtPAFPN, SegFPN
from fade_mm.upsamplers import FADE

FPNS = [(FPN, MMDetFPN), (SegFPN, MMSegFPN)]
ADDING = [*FPNS, (PAFPN, MMDetPAFPN)]
CONCATENATING = [(YOLOXPAFPN, MMDetYOLOXPAFPN), (CSPNeXtPAFPN, MMDetCSPNeXtPAFPN)]
CHANNELS = [4, 8, 16, 32]
EXTRA = [
    dict(num_outs=5),
    dict(num_outs=4),
    dict(num_outs=5, start_level=1, add_extra_convs='on_input'),
    dict(num_outs=6, start_level=1, add_extra_convs='on_lateral'),
    dict(num_outs=6, add_extra_convs='on_output', relu_before_extra_convs=True),
    dict(num_outs=6, add_extra_convs=True, relu_before_extra_convs=True),
    dict(num_outs=4, norm_cfg=dict(type='BN'), no_norm_on_lateral=True),
]


def features(height=32, width=48):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, c, -(-height // 2**i), -(-width // 2**i), generator=generator)
        for i, c in enumerate(CHANNELS)
    )


def build_host(host, host_cfg=None, **kwargs):
    """Arguments for our neck, and the host's neck built from the same."""
    kwargs = dict(in_channels=CHANNELS, out_channels=8) | kwargs
    theirs = host(**kwargs, **(host_cfg or {}))
    return kwargs, theirs


@pytest.mark.parametrize(('ours', 'host'), FPNS)
@pytest.mark.parametrize(
    'cfg',
    [
        {},
        dict(upsample_cfg=dict(mode='nearest')),
        dict(upsample_cfg=dict(mode='nearest', scale_factor=2)),
        dict(upsample_cfg=dict(mode='bilinear', align_corners=False)),
    ],
    ids=str,
)
def test_without_a_type_it_is_the_host(ours, host, cfg):
    kwargs, theirs = build_host(host, cfg, num_outs=5)
    mine = ours(**kwargs, **cfg)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    x = features()
    for a, b in zip(mine(x), theirs(x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(('ours', 'host'), ADDING)
@pytest.mark.parametrize('extra', EXTRA, ids=str)
def test_everything_but_the_upsampling_is_the_hosts(ours, host, extra):
    """With a nearest layer, every level equals the host's, extra levels too."""
    kwargs, theirs = build_host(host, **extra)
    mine = ours(**kwargs, upsample_cfg=dict(type='nearest'))
    mine.load_state_dict(theirs.state_dict(), strict=True)
    x = features()
    for a, b in zip(mine(x), theirs(x), strict=True):
        assert torch.equal(a, b)


def test_end_level_is_the_hosts():
    for (ours, host), end_level in zip(FPNS, (2, 3), strict=True):
        kwargs, theirs = build_host(host, num_outs=3, end_level=end_level)
        mine = ours(**kwargs, upsample_cfg=dict(type='nearest'))
        mine.load_state_dict(theirs.state_dict(), strict=True)
        x = features()
        for a, b in zip(mine(x), theirs(x), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(('ours', 'host'), FPNS)
@pytest.mark.parametrize('upsampler', ['fade', 'fade_lite', 'carafe'])
@pytest.mark.parametrize('size', [(32, 48), (33, 47), (8, 8)], ids=str)
def test_adds_the_upsampled_level_from_coarse_to_fine(ours, host, upsampler, size):
    neck = ours(CHANNELS, 8, 4, upsample_cfg=dict(type=upsampler))
    x = features(*size)
    c = [conv(feature) for conv, feature in zip(neck.lateral_convs, x, strict=True)]
    for i in (2, 1, 0):
        c[i] = c[i] + neck.upsamplers[i](c[i], c[i + 1])
    expected = [conv(feature) for conv, feature in zip(neck.fpn_convs, c, strict=True)]
    outs = neck(x)
    for a, b in zip(outs, expected, strict=True):
        assert torch.equal(a, b)
    sum(out.sum() for out in outs).backward()
    assert all(p.grad is not None for p in neck.parameters())


@pytest.mark.parametrize(('ours', 'host'), CONCATENATING)
@pytest.mark.parametrize(
    'cfg', [{}, dict(upsample_cfg=dict(scale_factor=2, mode='bilinear'))], ids=str
)
def test_without_a_type_a_neck_that_concatenates_is_the_host(ours, host, cfg):
    kwargs, theirs = build_host(host, cfg)
    mine = ours(**kwargs, **cfg)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    for a, b in zip(mine.eval()(features()), theirs.eval()(features()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(('ours', 'host'), CONCATENATING)
@pytest.mark.parametrize('more', [{}, dict(use_depthwise=True, num_csp_blocks=1)], ids=str)
def test_everything_but_the_upsampling_is_the_hosts_that_concatenates(ours, host, more):
    kwargs, theirs = build_host(host, **more)
    mine = ours(**kwargs, upsample_cfg=dict(type='nearest'))
    mine.load_state_dict(theirs.state_dict(), strict=True)
    for a, b in zip(mine.eval()(features()), theirs.eval()(features()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(('ours', 'host'), CONCATENATING)
def test_each_step_has_an_upsampler_of_its_own(ours, host):
    """From coarse to fine, under the guidance of the feature that is concatenated."""
    neck = ours(CHANNELS, 8, upsample_cfg=dict(type='fade'))
    called = []
    for up in neck.upsamplers:
        up.register_forward_hook(lambda up, inputs, output: called.append((inputs[0], up)))
    x = features(33, 47)
    neck(x)
    assert [up for _, up in called] == list(neck.upsamplers)
    assert all(en is feature for (en, _), feature in zip(called, x[2::-1], strict=True))
    assert [up.in_channels_de for up in neck.upsamplers] == [16, 8, 4]


def test_what_pafpn_cannot_do_by_itself_is_refused():
    with pytest.raises(ValueError, match=r"give it a type, e\.g\. dict\(type='bilinear'\)"):
        PAFPN(CHANNELS, 8, 4, upsample_cfg=dict(mode='bilinear'))


def test_a_leftover_mode_of_the_host_is_ignored():
    neck = FPN(CHANNELS, 8, 4, upsample_cfg=dict(mode='nearest', type='fade'))
    assert isinstance(neck.upsamplers[0], FADE)
    neck = YOLOXPAFPN(CHANNELS, 8, upsample_cfg=dict(mode='nearest', scale_factor=2, type='fade'))
    assert isinstance(neck.upsamplers[0], FADE)


def test_a_wrong_number_of_features_is_refused():
    with pytest.raises(ValueError, match='expected 4 backbone features, got 3'):
        FPN(CHANNELS, 8, 4, upsample_cfg=dict(type='fade'))(features()[:3])
    with pytest.raises(ValueError, match='expected 4 backbone features, got 3'):
        YOLOXPAFPN(CHANNELS, 8, upsample_cfg=dict(type='fade'))(features()[:3])
