"""`build_upsampler`: every layer, guided or not, is called alike and fits the encoder feature."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fade_mm.upsamplers import (
    CARAFE,
    FADE,
    PRESETS,
    SAPA,
    UPSAMPLERS,
    AsUpsampler,
    FADELite,
    Unguided,
    Upsampler,
    build_upsampler,
    named_upsamplers,
)
from tests.layers import ARGUMENTS, EVERY

ALL = [
    *EVERY,
    dict(type='fade_mm.fade_lite'),
    *(dict(type='deconv', kernel_size=k) for k in (1, 4)),
]


def registry():
    return pytest.importorskip('mmengine.registry').MODELS


BY_TWO = ('indexnet', 'a2u')


def name(cfg):
    return '-'.join(map(str, cfg.values()))


@pytest.mark.parametrize(
    ('cfg', 'scale_factor'),
    [(cfg, s) for cfg in ALL for s in (2, 3) if s == 2 or not cfg['type'].startswith(BY_TWO)],
    ids=str,
)
@pytest.mark.parametrize('rounding', ['exact', 'up', 'down'])
def test_output_has_the_size_of_en(cfg, scale_factor, rounding):
    h, w = {
        'exact': (4 * scale_factor, 3 * scale_factor),
        'up': (4 * scale_factor - 1, 3 * scale_factor),
        'down': (4 * scale_factor + 1, 3 * scale_factor + 1),
    }[rounding]
    channels = 4 * scale_factor**2
    up = build_upsampler(cfg, channels, channels, scale_factor=scale_factor)
    en = torch.randn(2, channels, h, w)
    de = torch.randn(2, channels, 4, 3, requires_grad=True)
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
    if isinstance(up, AsUpsampler):
        assert out is de


@pytest.mark.parametrize('cfg', ALL, ids=name)
def test_a_leftover_mode_is_ignored(cfg):
    torch.manual_seed(0)
    expected = build_upsampler(cfg, 4, 4)
    up = build_upsampler(dict(cfg, mode='bicubic'), 4, 4)
    up.load_state_dict(expected.state_dict())
    en, de = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    assert torch.equal(up(en, de), expected(en, de))


def test_the_stock_layers_are_mmcvs():
    """The same numbers from the same seed, under the same names."""
    build_upsample_layer = pytest.importorskip('mmcv.cnn').build_upsample_layer
    en, de = torch.randn(1, 4, 8, 6), torch.randn(1, 4, 4, 3)
    wide = dict(in_channels=4, out_channels=4, scale_factor=2)
    geometry = dict(in_channels=4, out_channels=4, stride=2, padding=1, output_padding=1)
    for cfg, theirs in (
        (dict(type='nearest'), dict(scale_factor=2)),
        (dict(type='bilinear'), dict(scale_factor=2)),
        (dict(type='deconv', kernel_size=3), geometry),
        (dict(type='pixel_shuffle', upsample_kernel=3), wide),
    ):
        torch.manual_seed(0)
        expected = build_upsample_layer(dict(cfg, **theirs))
        torch.manual_seed(0)
        up = build_upsampler(cfg, 4, 4)
        assert torch.equal(up(en, de), expected(de)), cfg
        assert [f'layer.{key}' for key in expected.state_dict()] == list(up.state_dict())


def test_a_short_output_repeats_its_last_row_and_column():
    en, de = torch.randn(1, 2, 7, 9), torch.randn(1, 2, 3, 4)
    out = build_upsampler(dict(type='nearest'), 2, 2)(en, de)
    assert torch.equal(out[:, :, 6], out[:, :, 5])
    assert torch.equal(out[..., 8], out[..., 7])
    assert torch.equal(out[:, :, :6, :8], F.interpolate(de, scale_factor=2))


def test_ours_come_before_those_of_mmcv():
    ops = pytest.importorskip('mmcv.ops')
    assert registry().get('carafe') is ops.CARAFEPack
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
    @registry().register_module('test_subpixel', force=True)
    class Subpixel(nn.Sequential):
        def __init__(self, in_channels, out_channels, scale_factor):
            super().__init__(
                nn.Conv2d(in_channels, out_channels * scale_factor**2, 1),
                nn.PixelShuffle(scale_factor),
            )

    up = build_upsampler(dict(type='test_subpixel'), 3, 4, scale_factor=3)
    assert up(torch.randn(1, 3, 9, 9), torch.randn(1, 4, 3, 3)).shape == (1, 4, 9, 9)


@pytest.mark.parametrize(('cfg', 'cls'), [('fade', FADE), ('fade_lite', FADELite)])
@pytest.mark.parametrize('added', [dict(skip='added'), dict(skip_is_added=True)], ids=str)
def test_the_gate_is_off_where_the_host_adds_the_skip(cfg, cls, added):
    up = build_upsampler(dict(type=cfg), 8, 8, **added)
    assert type(up) is cls
    assert up.gate_generator is None
    asked = build_upsampler(dict(type=cfg, gating=True), 8, 8, **added)
    assert asked.gate_generator is not None


@pytest.mark.parametrize('skip', [None, 'concatenated'])
def test_the_gate_is_on_elsewhere_unless_channels_differ(skip):
    assert build_upsampler(dict(type='fade'), 8, 8, skip=skip).gate_generator is not None
    assert build_upsampler(dict(type='fade'), 8, 4, skip=skip).gate_generator is None
    with pytest.raises(ValueError, match='gating=True joins en and de, so their channels must be'):
        build_upsampler(dict(type='fade', gating=True), 8, 4, skip=skip)


def test_the_gate_is_on_where_asked_for_by_fusion():
    up = build_upsampler(dict(type='fade', fusion='gate'), 8, 8, skip='added')
    assert up.gate_generator is not None


@pytest.mark.parametrize(('answer', 'gated'), [(False, True), (True, False)])
def test_a_config_that_says_what_the_host_does_is_believed(answer, gated):
    up = build_upsampler(dict(type='fade', skip_is_added=answer), 8, 8, skip='added')
    assert (up.gate_generator is not None) == gated


def test_scale_factor_of_the_config_wins():
    up = build_upsampler(dict(type='fade', scale_factor=4), 8, 8)
    assert up(torch.randn(1, 8, 16, 16), torch.randn(1, 8, 4, 4)).shape == (1, 8, 16, 16)


@pytest.mark.parametrize(
    ('cfg', 'error', 'message'),
    [
        (
            dict(type='fadd'),
            ValueError,
            "'fadd'; the nearest is 'fade'; there are a2u,.* carafe, .*ne",
        ),
        (dict(mode='nearest'), TypeError, "must be a dict with a 'type'"),
        ('fade', TypeError, r"e\.g\. dict\(type='fade'\), got 'fade'"),
        (dict(type=3), TypeError, 'must be a name or a class, got 3'),
        (
            dict(type='deconv'),
            TypeError,
            "'deconv'.*'kernel_size'; its arguments are .*kernel_size",
        ),
        (dict(type='pixel_shuffle'), TypeError, 'pixel_shuffle.*upsample_kernel'),
        (dict(type='fade', kernel=5), TypeError, "upsampler.*'kernel'; .* are up_kernel_size"),
        (
            dict(type='fade', kernel_sizes=5),
            TypeError,
            "'kernel_sizes'; did you mean up_kernel_size; its",
        ),
        (dict(type='sapa_b', similarity='gated'), ValueError, "'sapa_b' stands for .*contradicts"),
        (dict(type='FPN'), ValueError, "no upsampler is registered as 'FPN'"),
        (dict(type='fade_mm.FPN'), ValueError, "no upsampler is registered as 'fade_mm.FPN'"),
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


def test_there_is_no_other_skip():
    with pytest.raises(ValueError, match="'added', 'concatenated' or None, got 'summed'"):
        build_upsampler(dict(type='fade'), 8, 8, skip='summed')


def test_a_type_error_of_a_constructor_is_its_own():
    class Broken(Upsampler):
        def __init__(self, scale_factor):
            super().__init__()
            len(scale_factor)

    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        build_upsampler(dict(type=Broken), 8, 8)


@pytest.mark.parametrize('preset', PRESETS)
def test_a_preset_is_its_layer_with_arguments(preset):
    cfg = PRESETS[preset] | ARGUMENTS.get(preset, {})
    torch.manual_seed(0)
    expected = build_upsampler(cfg, 8, 8)
    torch.manual_seed(0)
    up = build_upsampler(dict(ARGUMENTS.get(preset, {}), type=preset), 8, 8)
    assert str(up) == str(expected)
    inputs = torch.randn(1, 8, 7, 8), torch.randn(1, 8, 4, 4)
    assert torch.equal(up(*inputs), expected(*inputs))


def test_an_argument_that_a_preset_stands_for_may_be_said():
    assert build_upsampler(dict(type='sapa_g', similarity='gated'), 8, 8).similarity == 'gated'


@pytest.mark.parametrize('name', sorted(UPSAMPLERS))
def test_mmengine_has_them_all(name):
    models = registry()
    from fade_mm.registry import MODELS

    assert MODELS.get(name) is UPSAMPLERS[name]
    assert models.get(f'fade_mm.{name}') is UPSAMPLERS[name]


def test_mmengine_builds_presets():
    up = registry().build(dict(type='fade_mm.sapa_g', in_channels_en=8))
    assert type(up) is SAPA
    assert up.similarity == 'gated'
    with pytest.raises(ValueError, match="'sapa_g' stands for"):
        registry().build(dict(type='fade_mm.sapa_g', in_channels_en=8, similarity='inner'))


def test_the_outermost_upsamplers_of_a_model_are_named():
    """However they were built; their parts are not."""
    wrapped, alone = build_upsampler(dict(type='carafe'), 8, 8), CARAFE(8)
    b2 = FADE(8, kernel_source='decoder', fusion='none')
    model = nn.ModuleDict(dict(a=nn.Sequential(wrapped, nn.ReLU()), b=alone, c=b2))
    assert list(named_upsamplers(model)) == [('a.0', wrapped), ('b', alone), ('c', b2)]
    assert list(named_upsamplers(alone)) == [('', alone)]


def test_an_upsampler_of_the_decoder_alone_is_called_either_way():
    up = CARAFE(8)
    en, de = torch.randn(1, 3, 7, 9), torch.randn(1, 8, 4, 5)
    assert torch.equal(up(en, de), up(de)[:, :, :7, :9])


def test_unguided_is_the_adapters_old_name():
    assert Unguided is AsUpsampler
