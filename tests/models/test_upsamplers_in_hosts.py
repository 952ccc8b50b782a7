"""Every upsampler trains in every host model."""

import pytest
import torch

from fade_mm.models import FPN, SegformerHead, SegFPN, UPerHead
from tests.layers import every_upsampler

CHANNELS = [4, 8, 16, 32]
HEAD = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3], channels=32, num_classes=5)
HOSTS = {
    'FPN': lambda cfg: FPN(CHANNELS, 32, 4, upsample_cfg=cfg),
    'SegFPN': lambda cfg: SegFPN(CHANNELS, 32, 4, upsample_cfg=cfg),
    'SegformerHead': lambda cfg: SegformerHead(**HEAD, upsample_cfg=cfg),
    'UPerHead': lambda cfg: UPerHead(**HEAD, upsample_cfg=cfg),
}


@pytest.mark.parametrize('host', HOSTS)
@every_upsampler
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
        assert ('bconv_DP' in name) if p.grad is None else p.grad.any(), name
