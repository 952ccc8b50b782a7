"""Depth: the heads, the backbone, the loss, and what the host answers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.export import Dim, export

from fade_mm.errors import SetupError
from fade_mm.hosts import host_of
from fade_mm.hosts.depth.bts_head import LocalPlane
from fade_mm.hosts.depth.loss import SILogLoss
from fade_mm.hosts.stand_ins import BTSHead, ResNet, UNetDepthHead
from fade_mm.run import load_config
from tests.hosts.standing_in import features
from tests.layers import every_upsampler, parameters
from tests.tools import ROOT

CHANNELS = [4, 8, 12, 16, 24]
SMALL = dict(in_channels=CHANNELS, channels=64)
SIZES = [(32, 48), (33, 47), (17, 21)]
PUBLISHED = 'configs/bts/bts_r50_{}_1xb4-50e_nyu-416x544.py'
heads = pytest.mark.parametrize('head', [BTSHead, UNetDepthHead])


def levels(height, width, batch=2):
    return features(height, width, batch, CHANNELS)


def varied(head):
    """The head in double precision and evaluation mode, no norm left at its start."""
    torch.manual_seed(0)
    for module in head.double().modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias, std=0.1)
    return head.eval()


# Counts


def test_bts_has_the_published_parameters_but_for_the_unused_classifier():
    backbone, head = ResNet(depth=50, with_stem=True), BTSHead()
    assert parameters(head) == 23_973_936
    assert parameters(backbone) + parameters(head) == 47_481_968
    classifier = 2048 * 1000 + 1000
    assert f'{(47_481_968 + classifier) / 1e6:.2f}' == '49.53'


@pytest.mark.parametrize(
    ('upsampler', 'more'),
    [
        ('carafe', 411_280),
        ('indexnet', 44_193_536),
        ('a2u', 78_104),
        ('sapa_b', 159_104),
        ('sapa_g', 252_164),
        ('fade', 356_964),
        ('fade_lite', 117_900),
    ],
)
def test_upsamplers_have_the_published_parameters(upsampler, more):
    with torch.device('meta'):
        head = BTSHead(upsample_cfg=dict(type=upsampler))
    assert parameters(head.upsamplers) == more


def test_bts_convolutions_have_as_many_products_as_its_authors():
    """61.93 G at 416x544."""
    products = []

    def count(conv, _, out):
        products.append(out.numel() * conv.weight[0].numel())

    with torch.device('meta'):
        head = BTSHead().eval()
        for module in head.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(count)
        sizes = [(208, 272), (104, 136), (52, 68), (26, 34), (13, 17)]
        head([torch.empty(1, c, *x) for c, x in zip(head.in_channels, sizes, strict=True)])
    assert f'{sum(products) / 1e9:.2f}' == '61.93'


def test_bts_has_the_names_of_the_released_decoder():
    norm = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    names = {f'upconv{i}.conv.weight' for i in range(1, 6)}
    names |= {f'conv{i}.0.weight' for i in range(1, 6)}
    names |= {f'{bn}.{x}' for bn in ('bn5', 'bn4', 'bn4_2', 'bn3', 'bn2') for x in norm}
    for rate in (3, 6, 12, 18, 24):
        atrous = f'daspp_{rate}.atrous_conv'
        names |= {f'{atrous}.aconv_sequence.{i}.weight' for i in (1, 4)}
        names |= {f'{atrous}.aconv_sequence.2.{x}' for x in norm}
        names |= {f'{atrous}.first_bn.{x}' for x in norm if rate > 3}
    steps = ['128_128', '128_64', '64_32', '32_16', '16_8']
    for name, used in (('8x8', steps), ('4x4', steps[1:]), ('2x2', steps[2:]), ('1x1', steps[3:])):
        names |= {f'reduc{name}.reduc.inter_{x}.0.weight' for x in used}
        last = 'final.0' if name == '1x1' else 'plane_params'
        names.add(f'reduc{name}.reduc.{last}.weight')
    names |= {'daspp_conv.0.weight', 'get_depth.0.weight'}
    with torch.device('meta'):
        assert set(BTSHead().state_dict()) == names
    assert len(names) == 110


# What the network computes


def plane_by_its_pixels(parameters, cell, max_depth):
    """Depth of local planes in metres, a pixel at a time."""
    _, rows, columns = parameters.shape
    depth = np.empty((rows * cell, columns * cell))
    for i in range(rows * cell):
        for j in range(columns * cell):
            a, b, c = (1 / (1 + math.exp(-x)) for x in parameters[:, i // cell, j // cell])
            theta, phi = a * math.pi / 3, b * 2 * math.pi
            normal = np.array(
                [math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)]
            )
            ray = [(x % cell - (cell - 1) / 2) / cell for x in (j, i)]
            depth[i, j] = max_depth * c / np.dot(normal, [*ray, 1])
    return depth


@pytest.mark.parametrize('cell', [2, 4, 8])
def test_local_planes_are_those_of_the_paper(cell):
    torch.manual_seed(0)
    parameters = torch.randn(1, 3, 3, 2, dtype=torch.float64)
    expected = plane_by_its_pixels(parameters[0].numpy(), cell, 10.0)
    h, w = 3 * cell - 1, 2 * cell  # what hangs over an odd size is left out
    ours = 10.0 * LocalPlane(cell, 10.0)(parameters, (h, w))
    np.testing.assert_allclose(ours[0, 0].numpy(), expected[:h, :w])


def bts_by_its_table(p, features, up):
    """BTS's decoder as it is written down, at sizes that are multiples of 32, in metres."""

    def conv(x, name, **kwargs):
        weight = p[name]
        return F.conv2d(x, weight, padding=kwargs.get('dilation', 1) * (weight.shape[-1] // 2),
                        **kwargs)  # fmt: skip

    def bn(x, name, eps=1.1e-5):
        return F.batch_norm(x, p[f'{name}.running_mean'], p[f'{name}.running_var'],
                            p[f'{name}.weight'], p[f'{name}.bias'], eps=eps)  # fmt: skip

    def atrous(x, rate):
        name = f'daspp_{rate}.atrous_conv'
        x = bn(x, f'{name}.first_bn') if rate > 3 else x
        x = bn(conv(F.relu(x), f'{name}.aconv_sequence.1.weight'), f'{name}.aconv_sequence.2', 1e-5)
        return conv(F.relu(x), f'{name}.aconv_sequence.4.weight', dilation=rate)

    def reduced(x, name):
        for key in p:
            if key.startswith(f'{name}.reduc.inter'):
                x = F.elu(conv(x, key))
        last = f'{name}.reduc.plane_params.weight'
        return conv(x, last if last in p else f'{name}.reduc.final.0.weight')

    def plane(x, cell):
        return torch.stack(
            [torch.from_numpy(plane_by_its_pixels(y.numpy(), cell, 1.0))[None] for y in x]
        )

    stem, layer1, layer2, layer3, layer4 = features
    u5 = bn(F.elu(conv(up(0, layer3, layer4), 'upconv5.conv.weight')), 'bn5')
    i5 = F.elu(conv(torch.cat([u5, layer3], 1), 'conv5.0.weight'))
    u4 = bn(F.elu(conv(up(1, layer2, i5), 'upconv4.conv.weight')), 'bn4')
    c4 = torch.cat([u4, layer2], 1)
    i4 = bn(F.elu(conv(c4, 'conv4.0.weight')), 'bn4_2')
    d3 = atrous(i4, 3)
    c4b = torch.cat([c4, d3], 1)
    d6 = atrous(c4b, 6)
    c4c = torch.cat([c4b, d6], 1)
    d12 = atrous(c4c, 12)
    c4d = torch.cat([c4c, d12], 1)
    d18 = atrous(c4d, 18)
    c4e = torch.cat([c4d, d18], 1)
    d24 = atrous(c4e, 24)
    f = F.elu(conv(torch.cat([i4, d3, d6, d12, d18, d24], 1), 'daspp_conv.0.weight'))
    depth8 = plane(reduced(f, 'reduc8x8'), 8)
    ds8 = F.interpolate(depth8, scale_factor=0.25, mode='nearest')
    u3 = bn(F.elu(conv(up(2, layer1, f), 'upconv3.conv.weight')), 'bn3')
    i3 = F.elu(conv(torch.cat([u3, layer1, ds8], 1), 'conv3.0.weight'))
    depth4 = plane(reduced(i3, 'reduc4x4'), 4)
    ds4 = F.interpolate(depth4, scale_factor=0.5, mode='nearest')
    u2 = bn(F.elu(conv(up(3, stem, i3), 'upconv2.conv.weight')), 'bn2')
    i2 = F.elu(conv(torch.cat([u2, stem, ds4], 1), 'conv2.0.weight'))
    depth2 = plane(reduced(i2, 'reduc2x2'), 2)
    u1 = F.elu(conv(F.interpolate(i2, scale_factor=2, mode='nearest'), 'upconv1.conv.weight'))
    r1 = reduced(u1, 'reduc1x1').sigmoid()
    i1 = F.elu(conv(torch.cat([u1, r1, depth2, depth4, depth8], 1), 'conv1.0.weight'))
    return 10 * conv(i1, 'get_depth.0.weight').sigmoid()


@pytest.mark.parametrize('upsampler', [None, 'fade'])
def test_bts_is_what_is_written_down(upsampler):
    head = varied(BTSHead(**SMALL, upsample_cfg=upsampler and dict(type=upsampler)))
    inputs = [x.double() for x in levels(32, 48, batch=1)]

    def up(step, en, de):
        if upsampler is None:
            return F.interpolate(de, scale_factor=2, mode='nearest')
        return head.upsamplers[step](en, de)

    with torch.no_grad():
        torch.testing.assert_close(head(inputs), bts_by_its_table(head.state_dict(), inputs, up))


def test_the_u_shaped_head_upsamples_concatenates_and_convolves_twice():
    head = varied(UNetDepthHead(in_channels=CHANNELS, channels=8, upsample_cfg=dict(type='fade')))
    inputs = [x.double() for x in levels(32, 48)]
    projected = [layer(x) for layer, x in zip(head.projections, inputs, strict=True)]
    x = projected[-1]
    for up, (first, second), en in zip(head.upsamplers, head.convs, projected[-2::-1], strict=True):
        assert up.gate_generator is not None
        x = second(first(torch.cat([en, up(en, x)], 1)))
    depth = 10 * F.conv2d(x, head.conv_depth.weight, head.conv_depth.bias, padding=1).sigmoid()
    torch.testing.assert_close(head(inputs), depth)
    image = head.predict_by_feat(depth, [dict(img_shape=(63, 95))])
    torch.testing.assert_close(image, F.interpolate(depth, (63, 95), mode='bilinear'))


def test_depth_at_an_odd_size_is_that_of_the_even_one_without_the_overhang():
    head = varied(BTSHead(**SMALL))
    depth = head([x.double() for x in levels(17, 21)])
    assert depth.shape == (2, 1, 34, 42)
    meta = [dict(img_shape=(33, 41), ori_shape=(33, 41))]
    assert torch.equal(head.predict_by_feat(depth, meta), depth[..., :33, :41])
    with pytest.raises(ValueError, match="a first feature of half the image's size"):
        head.predict_by_feat(depth, [dict(img_shape=(64, 64))])


NEED_EQUAL_CHANNELS = ('fade_b5', 'fade_b6', 'indexnet_m2o', 'sapa_i')


@every_upsampler
def test_every_upsampler_trains_in_bts_or_says_that_it_needs_equal_channels(cfg):
    """In its published shape encoder and decoder feature differ in three of four steps."""
    if cfg['type'] in NEED_EQUAL_CHANNELS:
        with pytest.raises(ValueError, match=r'^[^\n]*(equal|equally many)[^\n]*$'):
            BTSHead(**SMALL, upsample_cfg=cfg)
        return
    head = BTSHead(**SMALL, upsample_cfg=cfg)
    truth = 1 + torch.rand(2, 1, 65, 93)
    samples = [SegDataSample(gt_depth_map=PixelData(data=x)) for x in truth]
    head.loss_by_feat(head(levels(33, 47)), samples)['loss_silog'].backward()
    for name, parameter in head.named_parameters():
        assert 'bconv_DP' in name or parameter.grad is not None, name


def test_a_gate_that_cannot_be_is_refused_in_one_line():
    ungated = BTSHead(**SMALL, upsample_cfg=dict(type='fade')).upsamplers
    assert [up.gate_generator for up in ungated] == [None] * 4
    with pytest.raises(
        ValueError, match=r'^gating=True [^\n]* must be equal, [^\n]*_en=16 [^\n]*$'
    ):
        BTSHead(**SMALL, upsample_cfg=dict(type='fade', gating=True))


@heads
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(head, dtype):
    """Depth comes out in float32, and near that of float32."""
    torch.manual_seed(0)
    made = head(**SMALL, upsample_cfg=dict(type='fade'))
    exact = made.eval()(levels(17, 21))
    with torch.autocast('cpu', torch.bfloat16):
        depth = made(levels(17, 21))
    assert depth.dtype == torch.float32
    assert (depth - exact).abs().max() < 0.2
    half = made.to(dtype)([x.to(dtype) for x in levels(17, 21)])
    assert half.dtype == torch.float32
    assert (half - exact).abs().max() < 0.2


@pytest.mark.slow
@heads
def test_compiles_in_one_graph_for_all_sizes(head):
    torch.manual_seed(0)
    torch._dynamo.reset()
    made = head(**SMALL, upsample_cfg=dict(type='fade'))
    compiled = torch.compile(made, fullgraph=True, dynamic=True, backend='eager')
    for size in SIZES:
        found = []
        for module in (made, compiled):
            made.zero_grad()
            out = module(levels(*size))
            out.square().mean().backward()
            found.append([out, *(p.grad for p in made.parameters())])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('head', [pytest.param(BTSHead, marks=pytest.mark.slow), UNetDepthHead])
def test_exports_with_sizes_that_are_free(head):
    made = head(**SMALL, upsample_cfg=dict(type='fade')).eval()
    free = [[{2: Dim.DYNAMIC, 3: Dim.DYNAMIC}] * 5]
    exported = export(made, (list(levels(33, 47)),), dynamic_shapes=free).module()
    for size in SIZES:
        x = list(levels(*size))
        torch.testing.assert_close(exported(x), made(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=[256, 512, 1024, 2048]), r"write backbone=dict\(type='fade_mm.ResNet'"),
        (dict(channels=100), 'a multiple of 16, got 100'),
        (dict(max_depth=0), 'max_depth must be positive'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        BTSHead(**arguments)
    with pytest.raises(ValueError, match='two features at least'):
        UNetDepthHead(in_channels=[4])


# The backbone


def test_the_stem_gives_the_first_feature():
    backbone = ResNet(depth=18, with_stem=True)
    backbone.eval()
    image = torch.randn(1, 3, 33, 47)
    stem, *others = backbone(image)
    seen = []
    backbone.maxpool.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    backbone.with_stem = False
    expected = backbone(image)
    assert stem.shape == (1, 64, 17, 24)
    assert torch.equal(stem, seen[0])
    assert all(torch.equal(a, b) for a, b in zip(others, expected, strict=True))


def test_the_recipe_freezes_the_stem_and_norms_but_not_those_of_shortcuts():
    cfg = load_config(str(ROOT / PUBLISHED.format('nearest')))
    arguments = {key: x for key, x in cfg.model.backbone.items() if key not in ('type', 'init_cfg')}
    backbone = ResNet(**arguments)
    for name, parameter in backbone.named_parameters():
        official = f'base_model.{name}'  # names are torchvision's
        frozen = 'base_model.conv1' in official or '.bn' in official
        assert parameter.requires_grad is not frozen, name
    backbone.train()
    before = backbone.layer1[0].bn1.running_mean.clone()
    backbone(torch.randn(2, 3, 32, 32))
    assert not torch.equal(before, backbone.layer1[0].bn1.running_mean)
    with pytest.raises(ValueError, match="no parameter of the backbone is named 'norm'"):
        ResNet(depth=18, frozen=['norm'])


# The loss


def test_the_loss_is_that_of_all_pixels_of_the_batch():
    rng = np.random.default_rng(0)
    pred, truth = rng.uniform(0.2, 9, (2, 3, 1, 5, 7))
    truth[0, :, :2] = 0.1  # not above 0.1, does not count
    truth[2] = 0
    d = np.log(pred[truth > 0.1]) - np.log(truth[truth > 0.1])
    expected = 10 * np.sqrt(np.mean(d**2) - 0.85 * np.mean(d) ** 2)
    pred = torch.from_numpy(pred).requires_grad_()
    loss = SILogLoss()(pred, torch.from_numpy(truth))
    assert loss.item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: SILogLoss()(x, torch.from_numpy(truth)), pred)
    each = [SILogLoss()(pred[i : i + 1], torch.from_numpy(truth)[i : i + 1]) for i in (0, 1)]
    assert loss.item() != pytest.approx(sum(each).item() / 2)  # as image by image


def test_a_focus_of_one_forgives_a_scale():
    truth = torch.rand(2, 1, 4, 4, dtype=torch.float64) + 0.5
    loss = SILogLoss(variance_focus=1.0)
    noise = truth * (1 + 0.1 * torch.rand_like(truth))
    assert loss(3 * noise, truth).item() == pytest.approx(loss(noise, truth).item())
    assert SILogLoss()(3 * noise, truth) > SILogLoss()(noise, truth)
    with pytest.raises(ValueError, match='variance_focus must be from 0 to 1, got 2'):
        SILogLoss(variance_focus=2)


@pytest.mark.parametrize('known', [0.0, 2.0], ids=['nothing-known', 'nothing-wrong'])
def test_the_loss_without_anything_to_learn_has_zero_gradients(known):
    pred = torch.full((1, 1, 3, 3), 2.0, requires_grad=True)
    loss = SILogLoss()(pred, torch.full_like(pred, known))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=2e-5)
    assert torch.equal(pred.grad, torch.zeros_like(pred))


def test_a_prediction_that_vanishes_where_nothing_is_known_has_finite_gradients():
    pred = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]], requires_grad=True)
    truth = torch.tensor([[[[0.0, 1.5], [1.8, 3.3]]]])
    SILogLoss()(pred, truth).backward()
    assert torch.isfinite(pred.grad).all()


# The host


def config(**options):
    return load_config(str(ROOT / PUBLISHED.format('fade')), options)


def test_depth_estimators_have_a_host_of_their_own():
    cfg = config()
    host = host_of(cfg)
    assert type(host).__name__ == 'DepthHost'
    assert host.task_of(cfg) == 'depth'
    assert host.name_of(cfg.model) == 'BTS R50'
    labels = load_config('mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py')
    assert type(host_of(labels)).__name__ == 'MMSegHost'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'model.test_cfg.mode': 'slide'}, "mode must be 'whole', or 'slide_flip' .*, got 'slide'"),
        ({'model.test_cfg.mode': 'slide_flip'}, 'needs crop_size and stride'),
    ],
)
def test_what_the_library_does_not_do_is_refused(options, message):
    with pytest.raises(SetupError, match=message):
        config(**options)


def test_out_fits_sixteen_bits():
    cfg = config(**{'model.decode_head.max_depth': 80.0})
    with pytest.raises(SetupError, match=r'16 bits, which cannot hold max_depth=80\.0'):
        host_of(cfg).keep_predictions(cfg, 'out')
    with pytest.raises(SetupError, match='--out takes a folder for depth'):
        host_of(cfg).keep_predictions(cfg, 'out.pkl')
