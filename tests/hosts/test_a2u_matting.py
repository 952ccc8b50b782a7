"""A2U Matting: its counts, its start, its sizes, and what holds with every upsampler."""

from math import sqrt

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from fade_mm.errors import SetupError
from fade_mm.hosts.matting import a2u_matting
from fade_mm.hosts.matting.a2u_matting import A2UMatting
from fade_mm.hosts.matting.network import A2UNet
from fade_mm.hosts.matting.preprocessor import MattingPreprocessor
from fade_mm.hosts.matting.sample import MattingSample
from fade_mm.upsamplers import named_upsamplers
from tests.layers import EVERY, parameters

NARROW = dict(base_channels=8)


def build(upsampler='fade', **kwargs):
    torch.manual_seed(0)
    cfg = upsampler if isinstance(upsampler, dict) else dict(type=upsampler)
    return A2UMatting(upsample_cfg=cfg, **{**NARROW, **kwargs})


def batch(h, w, count=2, seed=0):
    """A batch as a data loader has it, with truth."""
    rng = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(shape, generator=rng)

    samples = []
    for _ in range(count):
        sample = MattingSample(metainfo=dict(ori_shape=(h, w), img_path='a.png'))
        sample.trimap = torch.tensor([0, 128, 255], dtype=torch.uint8)[
            torch.randint(0, 3, (1, h, w), generator=rng)
        ]
        sample.gt_alpha = random(1, h, w)
        sample.gt_fg, sample.gt_bg = 255 * random(3, h, w), 255 * random(3, h, w)
        samples.append(sample)
    pictures = [
        (x.gt_alpha * x.gt_fg + (1 - x.gt_alpha) * x.gt_bg).round().to(torch.uint8) for x in samples
    ]
    return dict(inputs=pictures, data_samples=samples)


@pytest.mark.parametrize(
    ('upsampler', 'more'),
    [
        ('bilinear', 0),
        ('fade', 124_008),
        ('fade_lite', 27_216),
        ('carafe', 263_824),
        ('sapa_i', 2_048),
        ('sapa_b', 35_072),
        ('sapa_g', 52_100),
        ('a2u_published', 40_232),
        ('indexnet_matting', 12_263_424),
    ],
)
def test_parameters_are_those_of_the_paper(upsampler, more):
    assert parameters(A2UMatting(upsample_cfg=dict(type=upsampler))) == 8_049_003 + more


@pytest.mark.parametrize(
    ('part', 'count'),
    {
        'layer0': 12_672, 'layer1': 221_952, 'layer2_1': 230_144, 'layer2_2': 886_272,
        'layer3_1': 919_040, 'layer3_2': 3_542_016, 'dconv_pp': 666_880,
        'decoder_layer4': 771_328, 'decoder_layer3': 193_152, 'decoder_layer2': 147_968,
        'decoder_layer1': 48_448, 'short3': 295_424, 'short2': 73_984, 'short1': 36_992,
        'short0': 2_432, 'pred': 299,
    }.items(),
)  # fmt: skip
def test_parameters_of_the_parts(part, count):
    assert parameters(getattr(A2UNet(dict(type='bilinear')), part)) == count


@pytest.mark.parametrize('alike', [False, True])
def test_it_starts_as_the_authors_do(alike):
    """Xavier normal for LeakyReLU everywhere; the upsamplers' own start unless asked otherwise."""
    MMLogger.get_current_instance().setLevel('WARNING')
    model = A2UMatting(upsample_cfg=dict(type='fade'), start_upsamplers_alike=alike)
    for p in model.parameters():
        nn.init.constant_(p, 7.0)
    torch.manual_seed(0)
    model.init_weights()
    gain = nn.init.calculate_gain('leaky_relu', 0.01)
    for name, module in model.network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
        elif isinstance(module, nn.Conv2d):
            assert module.bias is None or not module.bias.any()
            if module.weight.numel() < 5000:
                continue
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            plain = '.up.' in name and not alike
            std = (1 if plain else gain) * sqrt(2 / (fan_in + fan_out))
            assert module.weight.std().item() == pytest.approx(std, rel=0.05), name
    uniform = model.network.decoder_layer4.up.ker_generator.content_encoder.weight
    assert uniform.std().item() == pytest.approx(0.0714 if alike else 0.05, abs=0.002)


def test_the_head_starts_with_a_positive_sum_where_asked_to():
    for seed in range(4):
        found = []
        for positive in (False, True):
            torch.manual_seed(seed)
            network = A2UNet(dict(type='fade'), 4, start_head_positive=positive)
            network.init_weights()
            found.append(network.state_dict())
        theirs, ours = (weights.pop('pred.1.weight') for weights in found)
        torch.testing.assert_close(*found, rtol=0, atol=0)
        assert torch.equal(ours, theirs * theirs.sum().sign())
        assert ours.sum() > 0


def test_the_gate_is_on_everywhere():
    ups = dict(named_upsamplers(build()))
    assert list(ups) == [f'network.decoder_layer{i}.up' for i in (4, 3, 2, 1)]
    assert all(up.gate_generator is not None for up in ups.values())
    assert [up.in_channels_de for up in ups.values()] == [32, 16, 8, 8]


@pytest.mark.parametrize('cfg', EVERY, ids=lambda cfg: cfg['type'])
def test_every_upsampler_learns(cfg):
    model = build(cfg)
    ours = [up for _, up in named_upsamplers(model)]
    assert len(ours) == 4
    for up in ours:
        for p in up.parameters():
            if p.dim() == 4 and not p.any():  # before zeros, nothing learns in the first step
                torch.nn.init.normal_(p, std=0.01)
    data = model.data_preprocessor(batch(40, 56), training=True)  # no multiples of 16
    losses = model(**data, mode='loss')
    assert set(losses) == {'loss_alpha', 'loss_comp'}
    sum(losses.values()).backward()
    for key, p in model.named_parameters():
        unused = 'bconv_DP' in key
        assert (p.grad is None) == unused, key
        assert unused or torch.isfinite(p.grad).all(), key
        assert unused or '.up.' not in key or p.grad.any(), key


def test_the_loss_sees_the_composite_that_the_network_sees():
    """The true alpha composes it, in the network's order of channels."""
    model = build()
    data = model.data_preprocessor(batch(32, 48), training=True)
    truth = torch.stack([x.gt_alpha for x in data['data_samples']])
    model.network.forward = lambda x: truth
    losses = model(**data, mode='loss')
    assert losses['loss_comp'] < 0.004  # of a picture that was rounded
    assert losses['loss_alpha'] < 1e-5


def test_a_picture_and_its_trimap_become_four_channels():
    data = batch(16, 32)
    inputs = MattingPreprocessor()(data)['inputs']
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    for i in range(3):
        expected = (data['inputs'][0][2 - i] / 255 - mean[i]) / std[i]  # RGB from BGR
        torch.testing.assert_close(inputs[0, i], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(inputs[:, 3], torch.stack([x.trimap[0] for x in data['data_samples']]) / 255)


@pytest.mark.parametrize('size', [(16, 16), (17, 31), (30, 18), (5, 3), (1, 2)])
def test_any_size_is_padded_by_reflection_and_cropped(size):
    model = build().eval()
    data = batch(*size)
    seen = model.data_preprocessor(data)['inputs']
    h, w = size
    full = [-(-n // 16) * 16 for n in size]
    plain = MattingPreprocessor(size_divisor=1)(data)['inputs'].numpy()
    more = [(0, 0), (0, 0), (0, full[0] - h), (0, full[1] - w)]
    expected = np.pad(plain, more, mode='reflect')
    assert np.array_equal(seen.numpy(), expected)
    with torch.no_grad():
        raw = model.network(torch.from_numpy(expected))
        results = model.test_step(data)
    for sample, alpha in zip(results, raw, strict=True):
        found, trimap = sample.pred_alpha, sample.trimap[0]
        assert found.shape == size
        assert found.dtype == torch.float32
        unknown = trimap == 128
        assert torch.equal(found[unknown], alpha[0, :h, :w].clamp(0, 1)[unknown])
        assert torch.equal(found[~unknown], trimap[~unknown] / 255)


def test_inputs_that_the_network_cannot_take_are_refused():
    with pytest.raises(ValueError, match='multiples of 16, got 16 x 24'):
        build().network(torch.rand(2, 4, 16, 24))
    with pytest.raises(SetupError, match='at least two images in each batch, got 1'):
        build().train().network(torch.rand(1, 4, 16, 16))
    build().eval().network(torch.rand(1, 4, 16, 16))
    mixed = batch(16, 16, 1)
    for key, values in batch(16, 32, 1).items():
        mixed[key] += values
    with pytest.raises(SetupError, match=r'one size, got .*; set batch_size to 1'):
        build().data_preprocessor(mixed)
    with pytest.raises(ValueError, match='base_channels must be even and positive, got 7'):
        build(base_channels=7)


def test_half_precision_stays_near():
    model = build(base_channels=16).eval()
    data = batch(48, 64)
    with torch.no_grad():
        exact = [x.pred_alpha.clone() for x in model.test_step(data)]
        with torch.autocast('cpu', torch.bfloat16):
            half = [x.pred_alpha for x in model.test_step(data)]
    for a, b in zip(exact, half, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=0.03)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.train()(**model.data_preprocessor(batch(48, 64)), mode='loss')
    sum(losses.values()).backward()
    assert all(x.dtype == torch.float32 and torch.isfinite(x) for x in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ('backend', 'sizes'),
    [
        ('eager', [(32, 48)]),
        pytest.param('aot_eager', [(32, 48), (48, 32)], marks=pytest.mark.slow),
    ],
)
def test_it_compiles_in_one_graph(backend, sizes):
    network = build().network
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend=backend)
    network.dconv_pp.dropout.p = 0.0
    for size in sizes:
        x = torch.rand(2, 4, *size)
        for a, b in zip(*(step(module, x) for module in (compiled, network)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())


def step(module, x):
    """Alpha, and gradients of the parameters."""
    y = module(x)
    return [y, *torch.autograd.grad(y.square().sum(), list(module.parameters()))]


def test_norms_become_synchronised_ones_and_activations_stay():
    network = build().network.eval()
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    kinds = [type(m) for m in synchronised.modules()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(nn.SyncBatchNorm) == sum('running_mean' in x for x in network.state_dict())
    assert kinds.count(nn.LeakyReLU) > 40
    x = torch.rand(1, 4, 32, 32)  # evaluation computes as a plain norm, also on a CPU
    torch.testing.assert_close(synchronised(x), build().network.eval()(x))


# Large pictures


def tiles(crop_size=(32, 48), stride=(16, 32)):
    return dict(mode='slide', crop_size=crop_size, stride=stride)


def test_tiles_that_hold_a_picture_change_nothing():
    data = batch(40, 56)
    whole, tiled = build().eval(), build(test_cfg=tiles((64, 64), (48, 48))).eval()
    with torch.no_grad():
        expected = [x.pred_alpha.clone() for x in whole.test_step(data)]
        for a, b in zip(expected, tiled.test_step(data), strict=True):
            torch.testing.assert_close(a, b.pred_alpha)


@pytest.mark.parametrize('size', [(90, 100), (33, 200), (20, 130)])
def test_tiles_cover_a_picture_without_seams(size):
    """What depends on a point alone is the same by tiles."""
    model = build(test_cfg=tiles()).eval()
    seen = []

    def pointwise(x):
        seen.append(tuple(x.shape[2:]))
        return x[:, :1].sigmoid()

    model.network.forward = pointwise
    data = batch(*size, count=1)
    inputs = model.data_preprocessor(data)['inputs']
    alpha = inputs[0, 0].sigmoid()[: size[0], : size[1]]
    [sample] = model.test_step(data)
    unknown = sample.trimap[0] == 128
    torch.testing.assert_close(sample.pred_alpha[unknown], alpha[unknown])
    assert len(seen) > 1
    assert all(h % 16 == 0 and w % 16 == 0 and h <= 32 and w <= 48 for h, w in seen)


def test_tiles_fade_into_each_other():
    model = build(test_cfg=tiles((32, 32), (16, 16))).eval()
    turn = iter([0.0, 1.0, 0.0, 1.0, 0.0])
    model.network.forward = lambda x: torch.full_like(x[:, :1], next(turn))
    data = batch(32, 96, count=1)
    data['data_samples'][0].trimap.fill_(128)
    [sample] = model.test_step(data)
    steps = sample.pred_alpha[16].diff()
    assert steps.abs().max() < 0.1  # no seam: with plain means, 0.5


def test_tiles_that_are_known_are_not_computed():
    model = build(test_cfg=tiles((32, 32), (32, 32))).eval()
    calls = []
    model.network.forward = lambda x: calls.append(1) or x[:, :1]
    data = batch(64, 96, count=1)
    trimap = data['data_samples'][0].trimap
    trimap.fill_(255)
    trimap[0, 40, 40] = 128
    model.test_step(data)
    assert len(calls) == 1


def test_a_picture_that_is_too_large_stops_before_it_takes_the_memory(monkeypatch):
    data = batch(64, 96, count=1)
    monkeypatch.setattr(a2u_matting, 'available_memory', lambda device: 2**20)
    message = (
        r'64 x 96 takes up to 0\.0 GiB at once, .* set --cfg-options model\.test_cfg\.mode=slide'
    )
    with pytest.raises(SetupError, match=message):
        build().eval().test_step(data)
    with torch.no_grad():
        build(test_cfg=tiles()).eval().test_step(data)
    monkeypatch.setattr(a2u_matting, 'available_memory', lambda device: None)  # not known
    with torch.no_grad():
        build().eval().test_step(data)


@pytest.mark.parametrize(
    ('test_cfg', 'message'),
    [
        (dict(mode='sliding'), "must be 'whole' or 'slide', got 'sliding'"),
        (tiles((32, 32), (48, 16)), r'at most crop_size, got \(48, 16\) and \(32, 32\)'),
        (tiles((32, 32), (0, 16)), 'must be at least 1'),
    ],
)
def test_tiles_that_leave_gaps_are_refused(test_cfg, message):
    with pytest.raises(ValueError, match=message):
        build(test_cfg=test_cfg)
