"""The authors' matting checkpoints give the same alpha in our model; ImageNet weights start it."""

import pytest
import torch
from torch import nn

from fade_mm.hosts.matting.a2u_matting import A2UMatting
from fade_mm.hosts.matting.network import A2UNet
from fade_mm.hosts.matting.pretrained import load_encoder_weights
from fade_mm.papers.a2u_matting import load_official_a2u_matting
from fade_mm.run import SetupError, load_checkpoint
from tests.papers.authors_matting import ABN, AuthorsMatting
from tests.tools import run

UPSAMPLERS = {'bilinear': None, 'fade': dict(type='fade'), 'fade_lite': dict(type='fade_lite')}


def theirs(upsampler='fade'):
    """A model in the authors' structure, in which every parameter and statistic matters."""
    torch.manual_seed(0)
    model = AuthorsMatting(UPSAMPLERS[upsampler]).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ABN):
                signs = torch.randint(0, 2, module.weight.shape) * 2 - 1
                module.weight.uniform_(0.5, 1.5).mul_(signs)
                module.bias.normal_(std=0.3)
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
        # Where the scale is small, its eps shows.
        model.layer0[1].weight.mul_(1e-5)
        model.layer0[1].bias.zero_()
        model.layer1.block1.convs.conv1.weight.mul_(1e5)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):  # by itself alpha would vary by 0.01
                module.weight.mul_(2)
    return model


def image():
    return torch.rand(2, 4, 48, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def alpha(model):
    return model.double()(image().double())


@pytest.fixture(scope='module')
def weights():
    return theirs().state_dict()


@pytest.mark.parametrize('upsampler', UPSAMPLERS)
def test_alpha_is_the_same(upsampler):
    source, model = theirs(upsampler), A2UMatting(upsample_cfg=dict(type=upsampler)).eval()
    released = {f'module.{name}': value for name, value in source.state_dict().items()}
    load_official_a2u_matting(model, dict(state_dict=released, epoch=27))
    expected = alpha(source)
    assert expected.std() > 0.02
    torch.testing.assert_close(alpha(model), expected, rtol=1e-5, atol=1e-5)


def test_names_and_counts_are_those_of_the_released_checkpoints(weights):
    """349 entries with bilinear upsampling, 377 with FADE."""
    assert len(weights) == 377
    assert set(weights) == set(A2UNet(dict(type='fade')).state_dict())
    assert len(theirs('bilinear').state_dict()) == 349


def test_files_from_before_batches_were_counted_are_taken(weights):
    old = {name: x for name, x in weights.items() if not name.endswith('num_batches_tracked')}
    first, second = (A2UMatting(upsample_cfg=dict(type='fade')).eval() for _ in range(2))
    load_official_a2u_matting(first, old)
    load_official_a2u_matting(second, weights)
    assert torch.equal(alpha(first), alpha(second))


@pytest.mark.parametrize('change', [lambda x: x, torch.abs], ids=['sign', 'eps'])
def test_the_sign_and_the_eps_of_the_scale_matter(change, weights):
    norms = {name.replace('running_mean', 'weight') for name in weights if 'running_mean' in name}
    model = A2UMatting(upsample_cfg=dict(type='fade')).eval()
    plain = {name: change(x) if name in norms else x for name, x in weights.items()}
    model.network.load_state_dict(plain)
    assert (alpha(model) - alpha(theirs())).abs().max() > 1e-2


def test_norms_of_an_upsampler_are_plain_ones():
    model, other = (A2UMatting(upsample_cfg=dict(type='indexnet')) for _ in range(2))
    norm = model.network.decoder_layer1.up.index_net.indexnet[1]
    nn.init.constant_(norm.weight, -0.5)
    load_official_a2u_matting(other, model.network.state_dict())
    assert torch.equal(other.network.decoder_layer1.up.index_net.indexnet[1].weight, norm.weight)


@pytest.mark.parametrize(
    'name', ['layer2_1.proj_bn.weight', 'decoder_layer1.up.gate_generator.conv.bias']
)
@pytest.mark.parametrize('change', ['missing', 'misshapen', 'unknown'])
def test_a_key_that_does_not_fit_is_named(name, change, weights):
    changed = dict(weights)
    if change == 'unknown':
        changed[f'{name}s'] = changed[name]
    else:
        value = changed.pop(name)
        if change == 'misshapen':
            changed[name] = torch.cat([value, value])
    with pytest.raises(SetupError, match=f'this upsampler:\n(.|\n)*{name}'):
        load_official_a2u_matting(A2UMatting(upsample_cfg=dict(type='fade')), changed)


def test_another_upsampler_is_refused(weights):
    with pytest.raises(SetupError, match=r'up\.\S+ is unknown\n(.|\n)*and \d+ more'):
        load_official_a2u_matting(A2UMatting(), weights)


class Block(nn.Module):
    """torchvision's residual block."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_out, 3, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, bias=False), nn.BatchNorm2d(c_out)
        if c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
            )


def torchvisions():
    """The state dict of a ResNet-34 of torchvision's, every tensor another."""
    torch.manual_seed(0)
    layers = {'conv1': nn.Conv2d(3, 64, 7, bias=False), 'bn1': nn.BatchNorm2d(64)}
    c_in = 64
    for i, (channels, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 1):
        layers[f'layer{i}'] = nn.Sequential(
            *(Block(c_in if j == 0 else channels, channels) for j in range(blocks))
        )
        c_in = channels
    layers['fc'] = nn.Linear(512, 1000)
    return {k: torch.randn(v.shape) for k, v in nn.ModuleDict(layers).state_dict().items()}


def mapillarys():
    """The same under the names of mapillary/inplace_abn."""
    named = {}
    for name, value in torchvisions().items():
        stage, _, rest = name.partition('.')
        if stage in ('conv1', 'bn1'):
            name = f'mod1.{name}'
        elif stage != 'fc':
            block, _, layer = rest.partition('.')
            layer = layer.replace('downsample.0', 'proj_conv').replace('downsample.1', 'proj_bn')
            convs = '' if layer.startswith('proj') else 'convs.'
            name = f'mod{int(stage[-1]) + 1}.block{int(block) + 1}.{convs}{layer}'
        named[f'module.{name}'] = value
    return dict(state_dict=named)


PAIRS = {  # ours, and torchvision's
    'layer0.1.running_var': 'bn1.running_var',
    'layer1.block1.convs.conv1.weight': 'layer1.0.conv1.weight',
    'layer1.block3.convs.bn2.bias': 'layer1.2.bn2.bias',
    'layer2_1.layer1.conv1.weight': 'layer2.0.conv1.weight',
    'layer2_1.layer1.bn1.running_mean': 'layer2.0.bn1.running_mean',
    'layer2_1.layer2.conv2.weight': 'layer2.0.conv2.weight',
    'layer2_1.layer2.bn2.bias': 'layer2.0.bn2.bias',
    'layer2_1.proj_conv.weight': 'layer2.0.downsample.0.weight',
    'layer2_1.proj_bn.running_var': 'layer2.0.downsample.1.running_var',
    'layer2_2.block1.convs.conv2.weight': 'layer2.1.conv2.weight',
    'layer2_2.block3.convs.bn1.bias': 'layer2.3.bn1.bias',
    'layer3_1.layer2.conv2.weight': 'layer3.0.conv2.weight',
    'layer3_2.block3.convs.conv1.weight': 'layer3.3.conv1.weight',
}


@pytest.mark.parametrize('source', [torchvisions, mapillarys])
def test_an_imagenet_encoder_is_taken(source):
    network = A2UNet(dict(type='bilinear'))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    load_encoder_weights(network, source(), 'the file')
    found, expected = network.state_dict(), torchvisions()
    for ours, its in PAIRS.items():
        assert torch.equal(found[ours], expected[its]), ours
    assert torch.equal(found['layer0.0.weight'][:, :3], expected['conv1.weight'])
    assert not found['layer0.0.weight'][:, 3].any()
    scale = expected['layer1.1.bn1.weight']
    scale = scale.abs() + 1e-5 if source is mapillarys else scale
    assert torch.equal(found['layer1.block2.convs.bn1.weight'], scale)
    for key, value in found.items():
        if not key.endswith('num_batches_tracked'):
            assert torch.equal(value, before[key]) != key.startswith('layer'), key


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ({'stem.weight': torch.ones(1)}, 'the file is no ResNet-34 of torchvision or of mapillary'),
        (
            {k: v for k, v in torchvisions().items() if k != 'layer3.3.bn2.bias'},
            r'layer3\.3\.bn2\.bias is missing',
        ),
        (
            torchvisions() | {'layer2.1.conv1.weight': torch.ones(128, 512, 1, 1)},
            r'layer2\.1\.conv1\.weight has \(128, 512, 1, 1\), not \(128, 128, 3, 3\)',
        ),
    ],
)
def test_weights_that_do_not_fit_the_encoder_are_refused(weights, message):
    with pytest.raises(SetupError, match=message):
        load_encoder_weights(A2UNet(dict(type='bilinear')), weights, 'the file')


def test_a_config_starts_the_encoder(tmp_path):
    path = str(tmp_path / 'resnet34.pth')
    torch.save(torchvisions(), path)
    model = A2UMatting(pretrained=path)
    model.init_weights()
    found = model.network.layer3_1.proj_conv.weight
    assert torch.equal(found, torchvisions()['layer3.0.downsample.0.weight'])
    with pytest.raises(SetupError, match='no_such_file cannot be loaded'):
        A2UMatting(pretrained='no_such_file').init_weights()


@pytest.mark.parametrize('upsampler', UPSAMPLERS)
def test_the_tool_converts(upsampler, tmp_path, capsys):
    source = theirs(upsampler)
    released = {f'module.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=released, epoch=27), tmp_path / 'in.pth')
    ending = {'fade': '', 'fade_lite': '-lite', 'bilinear': '-bilinear'}[upsampler]
    run(
        'model_converters/fade_official', tmp_path / 'in.pth', tmp_path / 'out.pth',
        '--to', f'a2u-matting{ending}',
    )  # fmt: skip
    printed = capsys.readouterr().out
    tag = upsampler.replace('_', '-')
    assert f'matting/a2u-matting_r34_{tag}_1xb16-180k_composition-1k-512x512.py' in printed
    model = A2UMatting(upsample_cfg=dict(type=upsampler)).eval()
    load_checkpoint(model, str(tmp_path / 'out.pth'))
    torch.testing.assert_close(alpha(model), alpha(source), rtol=1e-5, atol=1e-5)


def test_the_tool_leaves_nothing_behind_when_it_refuses(tmp_path):
    torch.save(theirs('fade_lite').state_dict(), tmp_path / 'in.pth')
    with pytest.raises(SystemExit, match=r'size mismatch(.|\n)*Tried --to a2u-matting; there are'):
        run(
            'model_converters/fade_official', tmp_path / 'in.pth', tmp_path / 'out.pth',
            '--to', 'a2u-matting',
        )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ['in.pth']
