"""Every upsampler trains in every host model."""

import pytest
import torch

from fade_mm.models import FPN, SegformerHead, SegFPN, UPerHead

CHANNELS = [4, 8, 16, 32]
HEAD = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3], channels=32, num_classes=5)
HOSTS = {
    'FPN': lambda cfg: FPN(CHANNELS, 32, 4, upsample_cfg=cfg),
    'SegFPN': lambda cfg: SegFPN(CHANNELS, 32, 4, upsample_cfg=cfg),
    'SegformerHead': lambda cfg: SegformerHead(**HEAD, upsample_cfg=cfg),
    'UPerHead': lambda cfg: UPerHead(**HEAD, upsample_cfg=cfg),
}
UPSAMPLERS = [
    dict(type='nearest'),
    dict(type='bilinear'),
    dict(type='deconv', kernel_size=3),
    dict(type='pixel_shuffle', upsample_kernel=3),
    dict(type='carafe'),
    dict(type='indexnet'),
    dict(type='indexnet', network='m2o', nonlinear=False, context=False),
    dict(type='a2u'),
    dict(type='a2u', downsampling=False),
    dict(type='sapa', similarity='inner'),
    dict(type='sapa'),
    dict(type='sapa', similarity='gated'),
    dict(type='dysample'),
    dict(type='dysample', dyscope=True),
    dict(type='dysample', style='pl'),
    dict(type='dysample', style='pl', dyscope=True),
    dict(type='fade'),
    dict(type='fade_lite'),
]


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('cfg', UPSAMPLERS, ids=lambda cfg: '-'.join(map(str, cfg.values())))
def test_trains_at_odd_sizes(host, cfg):
    torch.manual_seed(0)
    model = HOSTS[host](cfg)
    sizes = [(33, 47), (17, 24), (9, 12), (5, 6)]
    x = tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True))
    outs = model(x)
    outs = [outs] if isinstance(outs, torch.Tensor) else outs
    assert outs[0].shape[2:] == sizes[0]
    sum(out.square().sum() for out in outs).backward()
    for name, p in model.upsamplers.named_parameters():
        assert (p.grad is not None) == ('bconv_DP' not in name), name
