"""What `watch_upsamplers` records, against the layer's own formulas."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn import functional

from fade_mm.analysis.views import overlay, watch_upsamplers
from fade_mm.upsamplers import FADE, build_upsampler
from tests import definition
from tests.layers import ARGUMENTS


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


def test_of_several_groups_the_first_is_drawn():
    up, single = FADE(4, up_group=2), FADE(4)
    for p in up.parameters():
        nn.init.normal_(p)
    w, shapes = up.state_dict(), {name: x.shape for name, x in single.state_dict().items()}
    single.load_state_dict({name: x[: shapes[name][0]] for name, x in w.items()})
    inputs = torch.randn(2, 4, 7, 9), torch.randn(2, 4, 4, 5)
    with watch_upsamplers(nn.ModuleDict(dict(up=up, single=single))) as views:
        for layer in (up, single):
            layer(*inputs)
    np.testing.assert_allclose(views['up'].entropy, views['single'].entropy, atol=1e-5)
    np.testing.assert_allclose(views['up'].gate, views['single'].gate, atol=1e-6)


@pytest.mark.parametrize('name', ['carafe', 'sapa_i', 'sapa_g', 'a2u'])
def test_kernels_of_other_upsamplers_are_drawn(name):
    cfg = dict(type=name, **ARGUMENTS.get(name, {}))
    model = nn.ModuleDict(dict(up=build_upsampler(cfg, 8, 8)))
    en, de = torch.randn(2, 8, 7, 9), torch.randn(2, 8, 4, 5)
    with watch_upsamplers(model) as views:
        model['up'](en, de)
    found = {view.name: view.tensor for view in model['up'].views(en, de)}
    kernels = found['kernels'][0].movedim(0, -1)
    entropy = torch.distributions.Categorical(kernels).entropy() / np.log(kernels.shape[-1])
    torch.testing.assert_close(torch.from_numpy(views['up'].entropy), entropy.detach())
    assert (views['up'].gate is not None) == ('gate' in found) == (name == 'sapa_g')


def test_upsamplers_without_kernels_are_left_out():
    model = build_upsampler(dict(type='bilinear'), 8, 8)
    with watch_upsamplers(model) as views:
        model(torch.randn(2, 8, 7, 9), torch.randn(2, 8, 4, 5))
    assert not views


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


def marking_gate(rows):
    """A gate generator that opens the first rows of a map, whatever the content."""

    def generate(de):
        gate = torch.full((1, 1, *de.shape[2:]), -99.0)
        gate[:, :, :rows] = 99.0
        return gate

    return generate


class Padded(BaseModel):
    """Pads pictures to multiples of 32, as detectors do, and gates at a fourth of their size."""

    def __init__(self, rows):
        super().__init__(dict(type='ImgDataPreprocessor', pad_size_divisor=32))
        self.up = FADE(3)
        self.up.gate_generator.forward = marking_gate(rows)

    def forward(self, inputs, data_samples, mode):
        assert mode == 'predict'
        assert inputs.shape[-2:] == (256, 352)
        en, de = (functional.avg_pool2d(inputs, stride) for stride in (4, 8))
        return self.up(en, de)


def sample(inputs_shape=(240, 340), **metainfo):
    return dict(
        inputs=torch.zeros(3, *inputs_shape, dtype=torch.uint8),
        data_samples=BaseDataElement(metainfo=metainfo),
    )


SCALED = dict(ori_shape=(480, 680), scale_factor=(0.5, 0.5))


@pytest.mark.parametrize(
    ('shape', 'sample', 'edge'),
    [
        ((240, 340), sample(img_shape=(240, 340)), 200),
        ((480, 680), sample(img_shape=(240, 340), **SCALED), 400),
        ((480, 680), sample((256, 352), img_shape=(256, 352), **SCALED), 400),
    ],
    ids=['padded-by-the-model', 'resized', 'padded-by-the-pipeline'],
)
def test_an_overlay_shows_a_map_where_it_was_made(shape, sample, edge):
    model = Padded(rows=25)  # of de, which has an eighth of the size
    with torch.no_grad(), watch_upsamplers(model) as views:
        model.test_step(pseudo_collate([sample]))
    view = views['up']
    drawn = overlay(np.zeros((*shape, 3), np.uint8), view.gate, content=view.content)
    assert drawn.shape == (*shape, 3)
    colours = [cv2.applyColorMap(np.uint8([[v]]), cv2.COLORMAP_VIRIDIS)[0, 0] for v in (255, 0)]
    is_open = (abs(drawn - 0.6 * colours[0]).max(-1) < 1).all(1)
    assert is_open.tolist() == [True] * edge + [False] * (shape[0] - edge)


def test_each_pixel_of_an_overlay_is_of_its_own_cell():
    values = np.linspace(0, 1, 16).reshape(4, 4)
    image = np.zeros((6, 9, 3), np.uint8)
    drawn = overlay(image, values, opacity=1, content=(0.75, 0.75))
    expected = np.repeat(np.repeat(values[:3, :3], 2, 0), 3, 1)
    colours = cv2.applyColorMap((255 * expected).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    assert np.array_equal(drawn, colours)
