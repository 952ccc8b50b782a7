"""What `watch_upsamplers` records, against the layer's own formulas."""

import numpy as np
import torch
from torch import nn

from fade_mm.upsamplers import FADE
from fade_mm.visualization import overlay, watch_upsamplers
from tests import definition


def test_records_gate_and_entropy():
    model = nn.ModuleDict(dict(up=FADE(4)))
    nn.init.normal_(model['up'].ker_generator.content_encoder.weight)
    en, de = torch.randn(2, 4, 7, 9), torch.randn(2, 4, 4, 5)
    with watch_upsamplers(model) as views:
        model['up'](en, de)
    gate = model['up'].gate_generator(de).sigmoid()[0, 0]
    logits, low = model['up'].ker_generator(en, de)
    kernels = (logits + definition.nearest(low, (7, 9), 2)).softmax(1)
    entropy = torch.distributions.Categorical(kernels.movedim(1, -1)).entropy()[0] / np.log(25)
    torch.testing.assert_close(torch.from_numpy(views['up'].gate), gate.detach())
    torch.testing.assert_close(torch.from_numpy(views['up'].entropy), entropy.detach())


def test_layers_without_a_gate_and_no_traces_left():
    model = nn.ModuleDict(dict(a=FADE(4, gating=False), b=nn.Conv2d(4, 4, 1)))
    with watch_upsamplers(model) as views:
        out = model['a'](torch.randn(1, 4, 4, 4), torch.randn(1, 4, 2, 2))
    assert out.requires_grad
    assert list(views) == ['a']
    assert views['a'].gate is None
    views.clear()
    model['a'](torch.randn(1, 4, 4, 4), torch.randn(1, 4, 2, 2))
    assert not views


def test_constant_kernels_have_entropy_one():
    model = FADE(4)
    for p in model.ker_generator.parameters():
        nn.init.zeros_(p)
    with watch_upsamplers(model) as views:
        model(torch.randn(1, 4, 4, 4), torch.randn(1, 4, 2, 2))
    np.testing.assert_allclose(views[''].entropy, 1, rtol=1e-6)


def test_overlay_colours_by_value():
    image = np.full((8, 12, 3), 100, np.uint8)
    low, high = (overlay(image, np.full((2, 3), value)) for value in (0.0, 1.0))
    assert low.shape == image.shape
    assert low[0, 0, 0] > low[0, 0, 1]  # viridis starts blue (BGR)
    assert high[0, 0, 1] > high[0, 0, 0]  # and ends yellow
    assert np.array_equal(overlay(image, np.zeros((2, 3)), opacity=0), image)
