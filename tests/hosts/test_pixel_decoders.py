"""MaskFormer's and Mask2Former's pixel decoders against their hosts and published sizes."""

import pytest
import torch
from mmdet.models import layers
from mmengine.analysis import FlopAnalyzer
from mmengine.registry import MODELS, DefaultScope

from fade_mm.hosts import stand_ins as models
from fade_mm.run import load_config
from tests.hosts.standing_in import PAIRS, decoded, features, metas
from tests.tools import ROOT

NAMES = [name for name in PAIRS if name.endswith('PixelDecoder')]


def decoder(library, name, **kwargs):
    torch.manual_seed(0)
    made = getattr(library, name)(**PAIRS[name].arguments, **kwargs).eval()
    made.init_weights()
    with torch.no_grad():
        for parameter in made.parameters():  # deformable attention starts from constants
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return made


@pytest.mark.parametrize('name', NAMES)
def test_with_the_hosts_interpolation_as_a_layer_it_is_the_host(name):
    """At even sizes mmcv's layers equal the host's resize, so the rest must too."""
    theirs = decoder(layers, name)
    mine = decoder(
        models, name, upsample_cfg=dict(type=models.__dict__[name].stock_upsampler.lower())
    )
    mine.load_state_dict(theirs.state_dict(), strict=True)
    for a, b in zip(decoded(mine, 32, 48), decoded(theirs, 32, 48), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('name', NAMES)
def test_flops_of_the_upsamplers_are_counted(name):
    """Reassembly's share is in the analyser's total: K*K*C per output point."""
    made = decoder(models, name, upsample_cfg=dict(type='fade'))
    feats = list(features(32, 32))
    arguments = (feats,) if 'Deform' in name else (feats, metas(32, 32))
    counts = FlopAnalyzer(made, arguments).by_operator()
    points = sum(2 * (32 >> i) ** 2 for i in range(PAIRS[name].upsamplers))
    assert counts['gated_reassemble'] == points * 32 * 25


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
