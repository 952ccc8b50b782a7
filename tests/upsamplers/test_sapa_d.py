"""SAPA-D at other sizes than all upsamplers are compared at, and the authors' names and counts."""

import pytest
import torch

from fade_mm.upsamplers import SAPAD
from tests.layers import assert_same, features, parameters, randomised

from .definitions import sapa_d


@pytest.mark.parametrize('size', [(6, 9, 2, 3), (7, 8, 2, 2)], ids=str)
def test_other_scale_factor_and_channels(size):
    up = randomised(SAPAD(3, 4, scale_factor=3, num_points=2, groups=2, embedding_dim=3))
    assert_same(up, lambda w, *x: sapa_d(w, *x, 2, 3), *features(size, 3, 4, batch=1))


def test_parameters_are_the_authors():
    """Four are the published +0.6M of Faster R-CNN, six the +0.8M of SegFormer-B1."""
    names = {f'{layer}.{name}' for layer in ('q', 'k', 'offset') for name in ('weight', 'bias')}
    up = SAPAD(256)
    assert set(up.state_dict()) == names
    assert parameters(up) == 139_808


def test_starts_normal():
    up = SAPAD(256).requires_grad_(False)
    for layer in (up.q, up.k, up.offset):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not layer.bias.any()


def test_half_precision_samples_at_exact_points():
    """bfloat16 cannot tell 256.5 from 256, so coordinates must not be computed in it."""
    up = SAPAD(4, groups=2).bfloat16()
    for p in up.parameters():
        torch.nn.init.zeros_(p)
    x = torch.arange(300.0).repeat(4, 4, 1)[None].bfloat16()
    expected = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(up(expected, x), expected)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(groups=3), 'groups must divide in_channels_de, got 3 and 8'),
        (dict(num_points=0), 'num_points must be at least 1, got 0'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SAPAD(8, **arguments)
