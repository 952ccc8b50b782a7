"""`pointwise` against the convolution that it stands for."""

import pytest
import torch
from torch import nn

from fade_mm.ops.backend import cpu
from fade_mm.upsamplers import FADE
from fade_mm.upsamplers import pointwise as module
from fade_mm.upsamplers.pointwise import pointwise


@pytest.fixture(autouse=True, params=['mkl', 'kernel', 'convolution'])
def fastest(request, monkeypatch):
    """As on an Intel processor, on one of AMD's, and on others."""
    if request.param == 'kernel' and not cpu.is_built():
        pytest.skip('the CPU kernel is not built')
    monkeypatch.setattr(module, 'fastest', lambda: request.param)
    monkeypatch.setattr(module, '_MIN_SIZE', 0)
    return request.param


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


def test_second_derivatives():
    torch.manual_seed(0)
    conv, x = nn.Conv2d(3, 2, 1).double(), torch.randn(2, 3, 2, 3).double().requires_grad_()

    def function(x, weight, bias):
        with torch.nn.utils.stateless._reparametrize_module(conv, dict(weight=weight, bias=bias)):
            return pointwise(conv, x)

    inputs = x, *(p.detach().clone().requires_grad_() for p in conv.parameters())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_the_kernel_is_called_where_it_is_fastest(fastest, monkeypatch):
    called = []
    for name in ('multiply', 'correlate'):
        kernel = getattr(cpu, name)
        monkeypatch.setattr(cpu, name, lambda *x, f=kernel, n=name: called.append(n) or f(*x))
    conv, x = nn.Conv2d(6, 4, 1), torch.randn(1, 6, 5, 3, requires_grad=True)
    pointwise(conv, x).sum().backward()
    assert called == (['multiply', 'multiply', 'correlate'] if fastest == 'kernel' else [])


def test_what_needs_no_gradient_has_none():
    for frozen in ('weight', 'bias', 'x'):
        conv, x = nn.Conv2d(6, 4, 1), torch.randn(1, 6, 5, 3)
        tensors = dict(conv.named_parameters(), x=x)
        for name, tensor in tensors.items():
            tensor.requires_grad_(name != frozen)
        pointwise(conv, x).sum().backward()
        assert [name for name, tensor in tensors.items() if tensor.grad is None] == [frozen]


def test_half_precision_gives_the_convolutions():
    conv, x = nn.Conv2d(6, 4, 1).bfloat16(), torch.randn(1, 6, 5, 3).bfloat16()
    torch.testing.assert_close(pointwise(conv, x), conv(x))


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
