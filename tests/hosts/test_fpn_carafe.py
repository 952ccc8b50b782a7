"""mmdetection's FPN_CARAFE and ours."""

import pytest
import torch
from mmcv.ops.carafe import CARAFEPack
from mmdet.models.necks import FPN_CARAFE as MMDetFPN_CARAFE
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_state_dict

from fade_mm.errors import SetupError
from fade_mm.hosts import host_of
from fade_mm.hosts.stand_ins import FPN_CARAFE
from fade_mm.run import load_config
from fade_mm.run.checkpoint.loading import load_fitting
from fade_mm.upsamplers import CARAFE
from tests import definition
from tests.hosts.standing_in import CHANNELS, features

HOSTS = [
    dict(type='nearest'),
    dict(type='bilinear'),
    dict(type='deconv', upsample_kernel=3),
    dict(type='pixel_shuffle', upsample_kernel=3),
]
LEVELS = [
    dict(num_outs=4),
    dict(num_outs=5),
    dict(num_outs=6, start_level=1),
    dict(num_outs=2, end_level=1),
    dict(num_outs=3, start_level=1, end_level=3),
    dict(num_outs=5, norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU')),
    dict(num_outs=5, act_cfg=dict(type='ReLU'), order=('act', 'conv', 'norm')),
]
ROUNDED_DOWN = [(57, 57), (28, 28), (14, 14), (7, 7)]
STOCK = 'mmdet::carafe/{}_r50_fpn-carafe_1x_coco.py'


def build(cls, seed=0, **kwargs):
    torch.manual_seed(seed)
    neck = cls(**dict(in_channels=CHANNELS, out_channels=8, num_outs=5) | kwargs)
    neck.init_weights()
    return neck


def assert_equal(outs, expected):
    assert all(torch.equal(a, b) for a, b in zip(outs, expected, strict=True))


@pytest.mark.parametrize('cfg', HOSTS, ids=str)
def test_with_an_upsampling_of_the_hosts_it_is_the_host(cfg):
    theirs = build(MMDetFPN_CARAFE, upsample_cfg=ConfigDict(cfg))
    ours = build(FPN_CARAFE, upsample_cfg=cfg)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_equal(ours.state_dict().values(), theirs.state_dict().values())
    for size in [(32, 48), (33, 47)]:
        assert_equal(ours(features(*size)), theirs(features(*size)))


@pytest.mark.parametrize('levels', LEVELS, ids=str)
def test_everything_but_the_upsampling_is_the_hosts(levels):
    theirs = build(MMDetFPN_CARAFE, upsample_cfg=dict(type='nearest'), **levels)
    ours = build(FPN_CARAFE, seed=1, upsample_cfg=dict(type='fade_mm.nearest'), **levels)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert len(ours.upsamplers) == len(theirs.upsample_modules)
    assert_equal(ours(features(33, 47)), theirs(features(33, 47)))


@pytest.mark.parametrize('arguments', [{}, dict(up_kernel=3, compressed_channels=8)], ids=str)
def test_with_carafe_it_is_mmdetections_own_model(arguments, monkeypatch):
    """Whose reassembly, which has no CPU version, is its definition here."""
    monkeypatch.setattr(
        CARAFEPack, 'feature_reassemble', lambda _, x, mask: definition.reassemble(x, mask)
    )
    cfg = {'upsample_cfg': dict(type='carafe', **arguments)} if arguments else {}
    theirs = build(MMDetFPN_CARAFE, **cfg).double()
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.3)
    ours = build(FPN_CARAFE, seed=1, **cfg).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for size in [(32, 48), (33, 47)]:
        x = [feature.double() for feature in features(*size)]
        for a, b in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize('model', ['faster-rcnn', 'mask-rcnn'])
@pytest.mark.parametrize('load', [load_fitting, load_state_dict])
def test_released_names_load(model, load):
    """Those of mmdetection's checkpoints are the names of its model, e.g. this one."""
    cfg = load_config(STOCK.format(model)).model.neck
    with DefaultScope.overwrite_default_scope('mmdet'):
        theirs = MODELS.build(cfg)
        ours = MODELS.build(cfg | dict(type='fade_mm.FPN_CARAFE'))
    released = theirs.state_dict()
    assert released['upsample_modules.3.content_encoder.weight'].shape == (100, 64, 3, 3)
    load(ours, released)
    for a, b in zip(ours.upsamplers, theirs.upsample_modules, strict=True):
        assert isinstance(a.layer, CARAFE)
        assert_equal(a.layer.state_dict().values(), b.state_dict().values())


def test_a_released_detector_may_get_another_upsampler():
    theirs = build(MMDetFPN_CARAFE).state_dict()
    ours = build(FPN_CARAFE, seed=1, upsample_cfg=dict(type='fade'))
    kept = load_fitting(ours, theirs, may_lack=['upsamplers.'])
    assert set(ours.state_dict()) - set(kept) == {x for x in theirs if 'upsample' not in x}


@pytest.mark.parametrize('upsampler', ['fade', 'carafe', 'fade_mm.nearest', 'deconv3'])
def test_sizes_that_a_backbone_rounds_down_fit(upsampler):
    """As PVT's are; there, the host's own interpolation lacks points."""
    neck = build(FPN_CARAFE, upsample_cfg=dict(type=upsampler))
    x = [torch.rand(1, c, *hw) for c, hw in zip(CHANNELS, ROUNDED_DOWN, strict=True)]
    assert [out.shape[2:] for out in neck(x)] == [*ROUNDED_DOWN, (4, 4)]


def test_a_wrong_upsampler_or_number_of_features_is_refused():
    with pytest.raises(ValueError, match='expected 4 backbone features, got 3'):
        build(FPN_CARAFE)(features(32, 48)[:3])
    with pytest.raises(TypeError, match='upsample_cfg must be a dict'):
        build(FPN_CARAFE, upsample_cfg='fade')
    with pytest.raises(TypeError, match="upsample_cfg must be a dict with a 'type'"):
        build(FPN_CARAFE, upsample_cfg=dict(mode='nearest'))
    with pytest.raises(TypeError, match='missing a required argument'):
        build(FPN_CARAFE, upsample_cfg=dict(type='pixel_shuffle'))


def test_the_hosts_class_is_asked_for_what_it_knows():
    cfg = load_config(STOCK.format('faster-rcnn'))
    host_of(cfg).check_model(cfg)
    cfg.model.neck.upsample_cfg = dict(type='fade')
    with pytest.raises(SetupError, match=r"write type='fade_mm\.FPN_CARAFE'"):
        host_of(cfg).check_model(cfg)
