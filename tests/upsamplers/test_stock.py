"""The stock layers where their output has other channels than the feature."""

import pytest
import torch
from torch.export import Dim, export

from fade_mm.upsamplers import AsUpsampler, Deconv, PixelShuffle

SIZES = [(6, 8, 3, 4), (7, 9, 4, 5), (7, 9, 3, 4)]
layers = pytest.mark.parametrize(
    'layer',
    [Deconv(8, 4, 3), PixelShuffle(8, 4, 2, 3), AsUpsampler(torch.nn.ConvTranspose2d(8, 4, 2, 2))],
    ids=lambda layer: type(layer).__name__,
)


def inputs(h, w, H, W):
    return torch.rand(1, 8, h, w), torch.rand(1, 8, H, W)


def eager(layer):
    return layer


def exported(layer):
    sizes = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},) * 2
    return export(layer, inputs(7, 9, 4, 5), dynamic_shapes=sizes).module()


def compiled(layer):
    return torch.compile(layer, backend='eager', fullgraph=True)


def compiled_in_parts(layer):
    """An error leaves a graph in parts alone as it is."""
    return torch.compile(layer, backend='eager')


def traced(layer):
    return torch.jit.trace(layer, inputs(7, 9, 4, 5))


@layers
@pytest.mark.parametrize('form', [exported, compiled, traced, torch.fx.symbolic_trace])
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_channels_are_changed_in_every_form(layer, form):
    form = form(layer)
    for size in SIZES:
        x = inputs(*size)
        torch.testing.assert_close(form(*x), layer(*x), msg=f'{size}')
        assert layer(*x).shape == (1, 4, *size[:2])


@layers
@pytest.mark.parametrize('form', [eager, compiled_in_parts, torch.fx.symbolic_trace])
def test_an_equal_size_is_refused(layer, form):
    with pytest.raises(ValueError, match=r'the same size \(5, 6\).* changes its channels'):
        form(layer)(*inputs(5, 6, 5, 6))


@layers
def test_an_exported_program_refuses_an_equal_size(layer):
    with pytest.raises(AssertionError, match='Guard failed'):
        exported(layer)(*inputs(5, 6, 5, 6))
