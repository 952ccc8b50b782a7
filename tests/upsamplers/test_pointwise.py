"""`pointwise` against the convolution that it stands for."""

import pytest
import torch
from torch import nn

from fade_mm.upsamplers import FADE
from fade_mm.upsamplers import pointwise as module
from fade_mm.upsamplers.pointwise import pointwise


@pytest.fixture(autouse=True, params=[True, False], ids=['products', 'convolutions'])
def products_are_fast(request, monkeypatch):
    """As on an Intel processor, and as on others."""
    monkeypatch.setattr(module, 'products_are_fast', lambda: request.param)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('bias', [True, False])
def test_values_and_gradients_are_the_convolutions(bias, memory_format):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 4, 1, bias=bias).double()
    x = torch.randn(2, 6, 5, 3).double().to(memory_format=memory_format).requires_grad_()
    ours, theirs = pointwise(conv, x), conv(x)
    torch.testing.assert_close(ours, theirs)
    grad = torch.randn_like(ours)
    inputs = [x, *conv.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours, inputs, grad),
        torch.autograd.grad(theirs, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_autocast_gives_the_convolutions_dtype():
    conv, x = nn.Conv2d(6, 4, 1), torch.randn(1, 6, 5, 3)
    with torch.autocast('cpu', torch.bfloat16):
        assert pointwise(conv, x).dtype == conv(x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    'register',
    [
        nn.Module.register_forward_hook,
        nn.Module.register_full_backward_hook,
        lambda conv, hook: nn.modules.module.register_module_forward_hook(hook),
    ],
    ids=['forward', 'backward', 'global'],
)
def test_hooks_see_the_convolution(register):
    conv, seen = nn.Conv2d(6, 4, 1), []
    handle = register(conv, lambda module, *_: seen.append(module))
    pointwise(conv, torch.randn(1, 6, 5, 3)).sum().backward()
    handle.remove()
    assert seen == [conv]


def test_a_convolution_of_another_class_is_called():
    class Twice(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    conv, x = Twice(6, 4, 1), torch.randn(1, 6, 5, 3)
    assert torch.equal(pointwise(conv, x), conv(x))


@pytest.mark.parametrize('options', [dict(padding_mode='replicate'), dict(dilation=2, padding=2)])
def test_convolutions_of_another_kind_are_called(options):
    up = FADE(8, kernel_generation='semi-shift-h2l')
    same = FADE(8)
    for x in (up, same):
        x.ker_generator.content_encoder = nn.Conv2d(64, 25, 3, **{'padding': 1, **options})
    same.load_state_dict(up.state_dict())
    en, de = torch.rand(1, 8, 6, 8), torch.rand(1, 8, 3, 4)
    torch.testing.assert_close(up(en, de), same(en, de))


def test_a_forward_of_its_own_is_called():
    up, calls = FADE(8), []
    conv = up.gate_generator.conv
    conv.forward = lambda x: calls.append(x.shape) or nn.Conv2d.forward(conv, x)
    up(torch.rand(1, 8, 6, 8), torch.rand(1, 8, 3, 4))
    assert calls == [(1, 8, 3, 4)]
