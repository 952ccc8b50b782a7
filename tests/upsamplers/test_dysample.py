"""DySample against its definition, point by point, and the authors' names and counts."""

import pytest
import torch
import torch.nn.functional as F

from fade_mm.upsamplers import DySample
from tests.layers import assert_same, parameters, randomised

from .definitions import dysample

VARIANTS = [dict(style=style, dyscope=scope) for style in ('lp', 'pl') for scope in (False, True)]


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
@pytest.mark.parametrize('scale_factor', [2, 4])
def test_matches_the_definition(variant, scale_factor):
    channels = 2 * scale_factor**2
    up = randomised(DySample(channels, scale_factor, groups=2, **variant))
    x = torch.randn(2, channels, 3, 4, dtype=torch.float64, requires_grad=True)
    assert_same(up, lambda w, x: dysample(w, x, variant['style'], 2, scale_factor), x)


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_without_offsets_it_is_bilinear_interpolation(variant):
    up = DySample(8, 2, groups=2, **variant)
    torch.nn.init.zeros_(up.offset.weight)
    x = torch.randn(1, 8, 5, 7)
    torch.testing.assert_close(up(x), F.interpolate(x, scale_factor=2, mode='bilinear'))


@pytest.mark.parametrize(
    ('variant', 'published'),
    [(dict(dyscope=True), 49.2), (dict(style='pl', dyscope=True), 6.2)],
    ids=['DySample+', 'DySample-S+'],
)
def test_published_parameters_of_three_in_panoptic_fpn(variant, published):
    assert round(3 * parameters(DySample(256, **variant)) / 1e3, 1) == published


def test_groups_follow_the_style():
    assert DySample(32).groups == 4
    assert DySample(32, style='pl').groups == 8


def test_parameters_have_the_authors_names():
    names = {'init_pos', 'offset.weight', 'offset.bias'}
    assert set(DySample(32).state_dict()) == names
    assert set(DySample(32, dyscope=True).state_dict()) == names | {'scope.weight'}
    assert DySample(32).init_pos.shape == (1, 2 * 4 * 4, 1, 1)


def test_starts_nearly_bilinear():
    up = DySample(256, dyscope=True).requires_grad_(False)
    assert up.offset.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not up.offset.bias.any()
    assert not up.scope.weight.any()


def test_half_precision_samples_at_exact_points():
    """bfloat16 cannot tell 256.5 from 256, so coordinates must not be computed in it."""
    up = DySample(4).bfloat16()
    x = torch.arange(300.0).repeat(4, 4, 1)[None].bfloat16()
    exact = F.interpolate(x.float(), scale_factor=2, mode='bilinear')
    torch.testing.assert_close(up(x).float(), exact, atol=2, rtol=0.01)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=8, style='pp'), "style must be one of lp, pl, got 'pp'"),
        (dict(in_channels=6), 'groups must divide in_channels, got 4 and 6'),
        (dict(in_channels=8, scale_factor=3, style='pl'), 'a multiple of 9, got 8'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DySample(**arguments)
