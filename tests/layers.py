"""What the tests of upsample layers share."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from fade_mm.upsamplers import UPSAMPLERS

SIZES = [(8, 12, 4, 6), (7, 9, 4, 5), (7, 9, 3, 4), (5, 6, 5, 6), (1, 1, 1, 1)]
"""Of ``en`` and ``de``: exact, rounded up, rounded down, equal, smallest."""
ARGUMENTS = {
    'a2u': dict(num_groups=4),
    'a2u_published': dict(num_groups=4),
    'deconv': dict(kernel_size=3),
    'dysample_s': dict(groups=4),
    'dysample_s_plus': dict(groups=4),
    'lda_aqu': dict(reduction_factor=1),
    'pixel_shuffle': dict(upsample_kernel=3),
    'sapa_d': dict(groups=2, num_points=4),
}
"""What the upsamplers need besides their names, or because the tests' features are small."""
EVERY = [dict(type=name, **ARGUMENTS.get(name, {})) for name in sorted(UPSAMPLERS)]
"""Configs of all upsamplers and presets."""
every_upsampler = pytest.mark.parametrize('cfg', EVERY, ids=lambda cfg: cfg['type'])


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def randomised(module, seed=0):
    """The module in double precision and evaluation mode, nothing in it left at its start."""
    torch.manual_seed(seed)
    for p in module.double().parameters():
        nn.init.normal_(p, std=0.5)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return module.eval()


def features(size, channels_en, channels_de=None, batch=2):
    """``en`` and ``de`` in double precision that ask for gradients."""
    h, w, H, W = size
    shapes = (batch, channels_en, h, w), (batch, channels_de or channels_en, H, W)
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]


def assert_same(up, definition, *inputs, device='cpu'):
    """``up(*inputs)`` on a device is ``definition(its state dict, *inputs)``; so are gradients."""
    named = dict(up.named_parameters())
    there = {name: x.to(device) for name, x in (dict(up.named_buffers()) | named).items()}
    ours = functional_call(up, there, tuple(x.to(device) for x in inputs)).cpu()
    theirs = definition(dict(up.named_buffers()) | named, *inputs)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    tensors = [*inputs, *named.values()]
    grads = [
        torch.autograd.grad((out * weights).sum(), tensors, materialize_grads=True)
        for out in (ours, theirs)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
