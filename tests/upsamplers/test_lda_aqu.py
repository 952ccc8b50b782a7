"""LDA-AQU with other arguments than all upsamplers are compared with, and the authors' names."""

import pytest
import torch
import torch.nn.functional as F

from fade_mm.upsamplers import LDAAQU
from tests.layers import assert_same, parameters, randomised

from .definitions import lda_aqu


def test_other_scale_factor_and_arguments():
    up = LDAAQU(6, 3, 2, up_kernel_size=5, encoder_kernel_size=1, groups=3, range_factor=2)
    x = torch.randn(1, 6, 2, 3, dtype=torch.float64, requires_grad=True)
    assert_same(randomised(up), lambda w, x: lda_aqu(w, x, 3, 5, 2, 3), x)


def test_parameters_are_the_authors():
    norms = {
        f'{x}.norm.{name}' for x in ('conv_offset.1', 'layer_norm') for name in ('weight', 'bias')
    }
    convolutions = {f'{x}.weight' for x in ('proj_q', 'proj_k', 'conv_offset.0', 'conv_offset.3')}
    up = LDAAQU(256)
    others = {'conv_offset.3.bias', 'relative_position_bias_table'}
    assert set(up.state_dict()) == norms | convolutions | others
    assert up.relative_position_bias_table.shape == (1, 1, 1, 9, 64)
    assert parameters(up) == 39_410


def test_starts_with_points_in_their_window():
    up = LDAAQU(64)
    _, offsets = up.views(torch.randn(1, 64, 3, 4))
    assert not offsets.tensor.any()


def test_without_weights_it_is_the_mean_of_the_window():
    """Of the nine points around a point of the feature, enlarged with its corners in place."""
    up = LDAAQU(8)
    for p in up.parameters():
        torch.nn.init.zeros_(p)
    x = torch.rand(1, 8, 4, 5)
    enlarged = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
    # Half a step outside of the feature, its border and zeros are interpolated.
    inner = F.avg_pool2d(enlarged, 3, stride=1)
    torch.testing.assert_close(up(x)[:, :, 1:-1, 1:-1], inner)


def test_a_single_point_stays():
    x = torch.rand(1, 8, 1, 1)
    assert LDAAQU(8)(x).isfinite().all()
    assert LDAAQU(8, scale_factor=1)(x).isfinite().all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=8, groups=3), 'groups must divide in_channels and in_channels // redu'),
        (dict(in_channels=4), 'got groups=2, in_channels=4 and reduction_factor=4'),
        (dict(in_channels=8, up_kernel_size=2), 'up_kernel_size must be odd, got 2'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LDAAQU(**arguments)
