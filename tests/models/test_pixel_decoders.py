"""MaskFormer's and Mask2Former's pixel decoders against their hosts and published sizes."""

import pytest
import torch
from mmdet.models import layers
from mmengine.analysis import FlopAnalyzer
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmseg.models.decode_heads import MaskFormerHead as MMSegMaskFormerHead
from mmseg.structures import SegDataSample

from fade_mm import models
from fade_mm.engine import load_config
from tests.layers import every_upsampler
from tests.tools import ROOT

CHANNELS = [4, 8, 16, 32]
COMMON = ConfigDict(
    in_channels=CHANNELS,
    feat_channels=32,
    out_channels=12,
    norm_cfg=dict(type='GN', num_groups=4),
    positional_encoding=dict(num_feats=16, normalize=True),
)
ENCODER = dict(
    num_layers=1,
    layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=32, num_heads=2, batch_first=True),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=24),
    ),
)
DEFORMABLE = dict(
    num_layers=2,
    layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=32, num_heads=2, num_levels=3, batch_first=True),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=24),
    ),
)
ARGUMENTS = {
    'PixelDecoder': {k: v for k, v in COMMON.items() if k != 'positional_encoding'},
    'TransformerEncoderPixelDecoder': COMMON | dict(encoder=ENCODER),
    'MSDeformAttnPixelDecoder': COMMON | dict(encoder=DEFORMABLE),
}
HOST_LAYER = {name: 'bilinear' if 'Deform' in name else 'nearest' for name in ARGUMENTS}
UPSAMPLERS = {name: 1 if 'Deform' in name else 3 for name in ARGUMENTS}
NAMES = list(ARGUMENTS)
METAS = [dict(batch_input_shape=(128, 192), img_shape=shape) for shape in ((128, 192), (100, 130))]


def decoder(library, name, **kwargs):
    torch.manual_seed(0)
    made = getattr(library, name)(**ConfigDict(ARGUMENTS[name]), **kwargs).eval()
    made.init_weights()
    with torch.no_grad():
        for parameter in made.parameters():  # deformable attention starts from constants
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return made


def features(height=32, width=48):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, -(-height // 2**i), -(-width // 2**i), generator=generator)
        for i, c in enumerate(CHANNELS)
    ]


def outputs(made, feats):
    """The mask feature and all that goes to the transformer, in one list."""
    mask, memory = made(feats) if hasattr(made, 'level_encoding') else made(feats, METAS)
    return [mask, *(memory if isinstance(memory, list) else [memory])]


def assert_equal(mine, theirs):
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('name', NAMES)
def test_without_upsample_cfg_it_is_the_host(name):
    theirs, mine = decoder(layers, name), decoder(models, name)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    for size in [(32, 48), (33, 47)]:
        assert_equal(outputs(mine, features(*size)), outputs(theirs, features(*size)))


@pytest.mark.parametrize('name', NAMES)
def test_with_the_hosts_interpolation_as_a_layer_it_is_the_host(name):
    """At even sizes mmcv's layers equal the host's resize, so the rest must too."""
    theirs = decoder(layers, name)
    mine = decoder(models, name, upsample_cfg=dict(type=HOST_LAYER[name]))
    mine.load_state_dict(theirs.state_dict(), strict=True)
    assert_equal(outputs(mine, features()), outputs(theirs, features()))


@pytest.mark.parametrize('name', NAMES)
@every_upsampler
def test_every_upsampler_learns_at_odd_sizes(name, cfg):
    made = decoder(models, name, upsample_cfg=cfg)
    assert len(made.upsamplers) == UPSAMPLERS[name]
    sum(x.square().mean() for x in outputs(made, features(33, 47))).backward()
    for key, parameter in made.named_parameters():
        assert (parameter.grad is not None) == ('bconv_DP' not in key), key
        if 'upsamplers' in key and parameter.ndim == 4 and parameter.grad is not None:
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize('name', NAMES)
def test_the_gate_is_on_only_when_asked(name):
    made = decoder(models, name, upsample_cfg=dict(type='fade'))
    assert {up.gate_generator for up in made.upsamplers} == {None}
    asked = decoder(models, name, upsample_cfg=dict(type='fade', gating=True))
    assert all(up.gate_generator for up in asked.upsamplers)


@pytest.mark.parametrize('name', NAMES)
def test_flops_of_the_upsamplers_are_counted(name):
    """Reassembly's share is in the analyser's total: K*K*C per output point."""
    made = decoder(models, name, upsample_cfg=dict(type='fade'))
    arguments = (features(32, 32),) if 'Deform' in name else (features(32, 32), METAS)
    counts = FlopAnalyzer(made, arguments).by_operator()
    points = sum(2 * (32 >> i) ** 2 for i in range(UPSAMPLERS[name]))
    assert counts['gated_reassemble'] == points * 32 * 25


def maskformer(head_type, decoder_type, **kwargs):
    torch.manual_seed(0)
    stock = 'mmseg::maskformer/maskformer_swin-s_upernet_8xb2-160k_ade20k-512x512.py'
    cfg = load_config(stock).model.decode_head
    cfg.update(in_channels=[8, 16, 32, 64], num_queries=5, **kwargs)
    cfg.transformer_decoder.num_layers = 1
    cfg.type, cfg.pixel_decoder.type = head_type, decoder_type
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg).eval()


@pytest.mark.parametrize('arguments', [{}, dict(enforce_decoder_input_project=True)])
def test_maskformer_head_with_our_decoder_is_the_host(arguments):
    theirs = maskformer('MaskFormerHead', 'mmdet.PixelDecoder', **arguments)
    mine = maskformer('fade_mm.MaskFormerHead', 'fade_mm.PixelDecoder', **arguments)
    assert type(theirs) is MMSegMaskFormerHead
    mine.load_state_dict(theirs.state_dict(), strict=True)
    feats = [torch.randn(1, 8 * 2**i, 32 // 2**i, 32 // 2**i) for i in range(4)]
    samples = [SegDataSample(metainfo=dict(batch_input_shape=(128, 128), img_shape=(128, 128)))]
    for a, b in zip(mine(feats, samples), theirs(feats, samples), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ('host', 'total', 'added'), [('maskformer', 102, 0.22), ('mask2former', 107, 0.07)]
)
def test_published_parameters_of_the_swin_b_rows(host, total, added):
    """In millions: of the host model, and what CARAFE adds (README of poppinace/sapa)."""
    name = f'{host}_swin-b-in22k-384x384-pre_carafe_8xb2-160k_ade20k-640x640.py'
    cfg = load_config(str(ROOT / 'configs' / host / name))
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    counts = {name: p.numel() / 1e6 for name, p in model.named_parameters()}
    upsamplers = sum(count for name, count in counts.items() if 'upsamplers' in name)
    assert round(sum(counts.values()) - upsamplers) == total
    assert round(upsamplers, 2) == added
