"""`build_upsampler`: every layer, guided or not, is called alike and fits the encoder feature."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from fade_mm.upsamplers import CARAFE, FADE, FADELite, Unguided, build_upsampler

ALL = [
    dict(type='fade'),
    dict(type='fade_mm.fade_lite'),
    dict(type='carafe'),
    dict(type='nearest'),
    dict(type='bilinear'),
    dict(type='deconv', kernel_size=1),
    dict(type='deconv', kernel_size=3),
    dict(type='deconv', kernel_size=4),
    dict(type='pixel_shuffle', upsample_kernel=3),
    dict(type='indexnet'),
    dict(type='indexnet', network='m2o', nonlinear=False, context=False),
    dict(type='a2u', num_groups=4),
    dict(type='sapa', similarity='inner'),
    dict(type='sapa'),
    dict(type='sapa', similarity='gated'),
    dict(type='dysample'),
    dict(type='dysample', dyscope=True),
]
BY_TWO = ('indexnet', 'a2u')


def name(cfg):
    return '-'.join(map(str, cfg.values()))


@pytest.mark.parametrize(
    ('cfg', 'scale_factor'),
    [(cfg, s) for cfg in ALL for s in (2, 3) if s == 2 or cfg['type'] not in BY_TWO],
    ids=str,
)
@pytest.mark.parametrize('rounding', ['exact', 'up', 'down'])
def test_output_has_the_size_of_en(cfg, scale_factor, rounding):
    h, w = {
        'exact': (4 * scale_factor, 3 * scale_factor),
        'up': (4 * scale_factor - 1, 3 * scale_factor),
        'down': (4 * scale_factor + 1, 3 * scale_factor + 1),
    }[rounding]
    up = build_upsampler(cfg, 8, 8, scale_factor=scale_factor)
    en = torch.randn(2, 8, h, w)
    de = torch.randn(2, 8, 4, 3, requires_grad=True)
    out = up(en, de)
    assert out.shape == en.shape
    out.sum().backward()
    assert de.grad.abs().sum() > 0


@pytest.mark.parametrize('cfg', ALL, ids=name)
def test_same_size_is_a_scale_factor_of_one(cfg):
    en, de = torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6)
    up = build_upsampler(cfg, 8, 8)
    out = up(en, de)
    assert out.shape == de.shape
    if isinstance(up, Unguided):
        assert out is de


@pytest.mark.parametrize('cfg', ALL, ids=name)
def test_a_leftover_mode_is_ignored(cfg):
    torch.manual_seed(0)
    expected = build_upsampler(cfg, 4, 4)
    up = build_upsampler(dict(cfg, mode='bicubic'), 4, 4)
    up.load_state_dict(expected.state_dict())
    en, de = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    assert torch.equal(up(en, de), expected(en, de))


def test_interpolation_is_mmcvs():
    en, de = torch.randn(1, 4, 8, 6), torch.randn(1, 4, 4, 3)
    for mode in ('nearest', 'bilinear'):
        expected = F.interpolate(de, scale_factor=2, mode=mode)
        assert torch.equal(build_upsampler(dict(type=mode), 4, 4)(en, de), expected)


def test_a_short_output_repeats_its_last_row_and_column():
    en, de = torch.randn(1, 2, 7, 9), torch.randn(1, 2, 3, 4)
    out = build_upsampler(dict(type='nearest'), 2, 2)(en, de)
    assert torch.equal(out[:, :, 6], out[:, :, 5])
    assert torch.equal(out[..., 8], out[..., 7])
    assert torch.equal(out[:, :, :6, :8], F.interpolate(de, scale_factor=2))


def test_ours_come_before_those_of_mmcv():
    import mmcv.ops

    assert MMENGINE_MODELS.get('carafe') is mmcv.ops.CARAFEPack
    assert type(build_upsampler(dict(type='carafe'), 8, 8).layer) is CARAFE


def test_weights_load_under_the_names_of_the_layer_alone():
    theirs, up = CARAFE(8), build_upsampler(dict(type='carafe'), 8, 8)
    model = nn.Sequential(up)
    model.load_state_dict({f'0.{name}': p for name, p in theirs.state_dict().items()})
    de = torch.randn(1, 8, 3, 4)
    assert torch.equal(up(torch.randn(1, 8, 6, 8), de), theirs(de))
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match=r'Unexpected key.*0\.beta'):
        model.load_state_dict({**model.state_dict(), '0.beta': torch.ones(1)})


def test_a_registered_layer_of_someone_else_is_found_and_supplied():
    @MMENGINE_MODELS.register_module('test_subpixel', force=True)
    class Subpixel(nn.Sequential):
        def __init__(self, in_channels, out_channels, scale_factor):
            super().__init__(
                nn.Conv2d(in_channels, out_channels * scale_factor**2, 1),
                nn.PixelShuffle(scale_factor),
            )

    up = build_upsampler(dict(type='test_subpixel'), 3, 4, scale_factor=3)
    assert up(torch.randn(1, 3, 9, 9), torch.randn(1, 4, 3, 3)).shape == (1, 4, 9, 9)


@pytest.mark.parametrize(('cfg', 'cls'), [('fade', FADE), ('fade_lite', FADELite)])
def test_the_gate_is_off_where_the_host_adds_the_skip(cfg, cls):
    assert build_upsampler(dict(type=cfg), 8, 8).gate_generator is not None
    up = build_upsampler(dict(type=cfg), 8, 4, skip_is_added=True)
    assert type(up) is cls
    assert up.gate_generator is None
    asked = build_upsampler(dict(type=cfg, gating=True), 8, 8, skip_is_added=True)
    assert asked.gate_generator is not None


def test_the_gate_is_on_where_asked_for_by_fusion():
    up = build_upsampler(dict(type='fade', fusion='gate'), 8, 8, skip_is_added=True)
    assert up.gate_generator is not None


def test_scale_factor_of_the_config_wins():
    up = build_upsampler(dict(type='fade', scale_factor=4), 8, 8)
    assert up(torch.randn(1, 8, 16, 16), torch.randn(1, 8, 4, 4)).shape == (1, 8, 16, 16)


@pytest.mark.parametrize(
    ('cfg', 'error', 'message'),
    [
        (dict(type='fadd'), ValueError, "'fadd'; there are a2u,.* carafe, .*nearest"),
        (dict(mode='nearest'), TypeError, "must be a dict with a 'type'"),
        ('fade', TypeError, r"e\.g\. dict\(type='fade'\), got 'fade'"),
        (dict(type=3), TypeError, 'must be a name or a class, got 3'),
        (dict(type='deconv'), TypeError, "'deconv'.*'kernel_size'; arguments are in_channels"),
        (dict(type='pixel_shuffle'), TypeError, 'pixel_shuffle.*upsample_kernel'),
        (dict(type='fade', kernel=5), TypeError, "upsampler.*'kernel'; .*up_kernel_size"),
        (dict(type='fade', scale_factor=0), ValueError, 'scale_factor must be at least 1'),
    ],
)
def test_wrong_configs_are_refused(cfg, error, message):
    with pytest.raises(error, match=message):
        build_upsampler(cfg, 8, 8)


def test_a_layer_of_another_ratio_is_refused():
    up = build_upsampler(dict(type='deconv', kernel_size=3, stride=1, output_padding=0), 4, 4)
    with pytest.raises(ValueError, match='Deconv was to upsample'):
        up(torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4))
