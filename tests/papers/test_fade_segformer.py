"""The authors' SegFormer checkpoints give the same logits in our models."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from fade_mm.hosts.mmseg.mit import MixVisionTransformer
from fade_mm.papers.fade_segformer import load_official_segformer
from fade_mm.run import SetupError, load_checkpoint, load_config
from tests.papers.authors_segformer import AuthorsSegFormer
from tests.run.test_checkpoint import Touch
from tests.tools import ROOT, run

CONFIG = 'configs/segformer/segformer_mit-b1_{}_1xb16-160k_ade20k-512x512.py'
SMALL = dict(widths=(8, 16, 40, 64), depths=(1, 2, 1, 1), channels=16, classes=7)
B1 = dict(widths=(64, 128, 320, 512), depths=(2, 2, 2, 2), channels=256, classes=150)
H2L = {
    'ker_generator.compressor_en.': 'kernel_generator.conv1_en.',
    'ker_generator.compressor_de.': 'kernel_generator.conv1_de.',
    'ker_generator.content_encoder.weight': 'kernel_generator.conv2_kernels',
    'ker_generator.content_encoder.bias': 'kernel_generator.conv2_bias',
}


def theirs(upsampler='fade', size=SMALL):
    """A model in the authors' structure, in which every parameter and statistic matters."""
    torch.manual_seed(0)
    model = AuthorsSegFormer(**size, upsample_cfg=dict(type=upsampler)).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
            if getattr(module, 'bias', None) is not None:
                module.bias.normal_(std=0.3)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        # Where the variance is small, the layer norms' eps shows.
        model.backbone.patch_embed1.proj.weight.mul_(1e-2)
        model.backbone.patch_embed1.proj.bias.zero_()
        model.backbone.block1[0].attn.sr.weight.mul_(1e-2)
        model.backbone.block1[0].attn.sr.bias.zero_()
    return model


def ours(upsampler='fade', size=SMALL, **backbone):
    """The recipe's model at another size."""
    cfg = load_config(str(ROOT / CONFIG.format(upsampler.replace('_', '-')))).model
    cfg.backbone.update(
        init_cfg=None, embed_dims=size['widths'][0], num_layers=size['depths'], **backbone
    )
    cfg.decode_head.update(
        in_channels=size['widths'], channels=size['channels'], num_classes=size['classes']
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg).eval()


@torch.no_grad()
def logits(model, image):
    return model.decode_head(model.backbone(image))


def image():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('upsampler', ['fade', 'fade_lite'])
@pytest.mark.parametrize('wrapped', [True, False])
def test_logits_are_the_same(upsampler, wrapped):
    source, model = theirs(upsampler), ours(upsampler)
    weights = source.state_dict()
    load_official_segformer(model, dict(state_dict=weights, meta={}) if wrapped else weights)
    expected = logits(source, image())
    assert expected.std() > 0.1
    torch.testing.assert_close(logits(model, image()), expected, rtol=1e-5, atol=1e-5)


def test_the_eps_of_the_norms_behind_convolutions_matters():
    source, model = theirs(), ours(conv_norm_eps=None)
    load_official_segformer(model, source.state_dict())
    assert (logits(model, image()) - logits(source, image())).abs().max() > 1e-3


def test_the_eps_is_set_in_norms_behind_convolutions_alone():
    arguments = dict(embed_dims=8, num_layers=[1] * 4, num_heads=[1, 2, 5, 8])
    eps = {
        name: module.eps
        for name, module in MixVisionTransformer(**arguments, conv_norm_eps=1e-5).named_modules()
        if isinstance(module, nn.LayerNorm)
    }
    changed = {f'layers.{i}.0.norm' for i in range(4)}
    changed |= {f'layers.{i}.1.0.attn.norm' for i in range(3)}
    assert eps == {name: 1e-5 if name in changed else 1e-6 for name in eps}
    assert changed < set(eps)
    plain = MixVisionTransformer(**arguments)
    assert {m.eps for m in plain.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


def test_names_of_the_high_to_low_formulation_convert():
    weights = {}
    for name, value in theirs().state_dict().items():
        for new, old in H2L.items():
            name = name.replace(new, old)
        weights[name] = value
    assert any('conv2_kernels' in name for name in weights)
    first, second = ours(), ours()
    load_official_segformer(first, weights)
    load_official_segformer(second, theirs().state_dict())
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


NAMES = [
    'backbone.patch_embed2.proj.weight',
    'backbone.block2.1.attn.kv.bias',
    'backbone.block1.0.attn.q.weight',
    'backbone.block3.0.mlp.dwconv.dwconv.weight',
    'backbone.block4.0.mlp.fc1.weight',
    'backbone.norm3.bias',
    'decode_head.linear_c4.proj.weight',
    'decode_head.linear_fuse.bn.running_var',
    'decode_head.linear_pred.weight',
    'decode_head.upsamplers.5.gate_generator.conv.bias',
]


@pytest.fixture(scope='module')
def pair():
    return theirs(), ours()


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('change', ['missing', 'misshapen', 'renamed'])
def test_a_key_that_does_not_fit_is_named(name, change, pair):
    weights = pair[0].state_dict()
    value = weights.pop(name)
    wrong = name
    if change == 'misshapen':
        weights[name] = torch.cat([value, value])
    elif change == 'renamed':
        wrong = name + 's'
        weights[wrong] = value
    with pytest.raises(SetupError) as error:
        load_official_segformer(pair[1], weights)
    assert wrong in str(error.value)
    assert name in str(error.value)


def test_a_deeper_model_is_refused():
    deeper = theirs(size=SMALL | dict(depths=(1, 3, 1, 1)))
    with pytest.raises(SetupError, match=r'backbone\.block2\.2\.norm1\.weight is unknown'):
        load_official_segformer(ours(), deeper.state_dict())


def test_weights_of_a_data_parallel_model_are_taken():
    source, model = theirs(), ours()
    load_official_segformer(model, {f'module.{k}': v for k, v in source.state_dict().items()})
    torch.testing.assert_close(
        logits(model, image()), logits(source, image()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize('content', [dict(state_dict=[1]), {}, {3: torch.ones(1)}])
def test_what_holds_no_weights_is_refused(content):
    with pytest.raises(SetupError):
        load_official_segformer(ours(), content)


@pytest.mark.parametrize(
    ('to', 'upsampler'), [('segformer-b1', 'fade'), ('segformer-b1-lite', 'fade_lite')]
)
def test_the_tool_converts_a_b1(to, upsampler, tmp_path, capsys):
    source = theirs(upsampler, B1)
    torch.save(dict(state_dict=source.state_dict(), meta={}), tmp_path / 'in.pth')
    run('model_converters/fade_official', tmp_path / 'in.pth', tmp_path / 'out.pth', '--to', to)
    assert 'written' in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ['in.pth', 'out.pth']
    model = ours(upsampler, B1)
    checkpoint = load_checkpoint(model, str(tmp_path / 'out.pth'))
    assert len(checkpoint['meta']['dataset_meta']['classes']) == 150
    torch.testing.assert_close(
        logits(model, image()), logits(source, image()), rtol=1e-5, atol=1e-5
    )


def test_the_tool_replaces_no_file(tmp_path):
    (tmp_path / 'out.pth').write_text('mine')
    with pytest.raises(SystemExit, match=r'out\.pth exists'):
        run('model_converters/fade_official', tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert (tmp_path / 'out.pth').read_text() == 'mine'


def test_the_tool_leaves_nothing_behind_when_it_refuses(tmp_path):
    torch.save(theirs().state_dict(), tmp_path / 'in.pth')
    message = r'patch_embed1\.proj\.weight has shape(.|\n)*Tried --to segformer-b1; there are'
    with pytest.raises(SystemExit, match=message):
        run('model_converters/fade_official', tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert [p.name for p in tmp_path.iterdir()] == ['in.pth']


def test_the_tool_runs_nothing_that_a_file_contains(tmp_path):
    torch.save(dict(state_dict={}, extra=Touch(tmp_path / 'ran')), tmp_path / 'in.pth')
    with pytest.raises(SystemExit, match='refused'):
        run('model_converters/fade_official', tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert [p.name for p in tmp_path.iterdir()] == ['in.pth']


def test_the_tool_needs_a_folder_to_write_into(tmp_path):
    with pytest.raises(SystemExit, match='there is no folder'):
        run('model_converters/fade_official', tmp_path / 'in.pth', tmp_path / 'no' / 'out.pth')
