"""Derivatives of any kind and order, and what PyTorch asks of an operator beside its result."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.gradcheck import gradcheck, gradgradcheck
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from fade_mm.ops import gated_reassemble, reassemble
from fade_mm.upsamplers import FADE
from tests import definition
from tests.ops.test_gated_reassemble import NAMES, PARTS, make

SMALL = dict(h=3, w=4, H=2, W=2, n=1, c=2, k=3)


def tensors(parts=NAMES):
    return {name: x.detach().requires_grad_() for name, x in make(**SMALL, parts=parts).items()}


def ours(*values, parts=NAMES):
    return gated_reassemble(**dict(zip(parts, values, strict=True)))


def theirs(*values, parts=NAMES):
    return definition.gated_reassemble(**dict(zip(parts, values, strict=True)))


@pytest.mark.parametrize('parts', PARTS, ids=str)
def test_second_derivatives(parts):
    values = list(tensors(parts).values())
    assert gradcheck(lambda *x: ours(*x, parts=parts), values)
    assert gradgradcheck(lambda *x: ours(*x, parts=parts), values)


def test_second_derivatives_of_a_tensor_that_is_given_twice():
    x = torch.randn(1, 9, 4, 4, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda x: gated_reassemble(x, x, scale_factor=1), [x])


def test_forward_mode():
    values = [x.detach() for x in tensors().values()]
    tangents = [torch.randn_like(x) for x in values]
    result = jvp(ours, tuple(values), tuple(tangents))
    torch.testing.assert_close(result, jvp(theirs, tuple(values), tuple(tangents)))
    assert result[1].abs().min() > 0
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*pair) for pair in zip(values, tangents, strict=True)]
        torch.testing.assert_close(forward_ad.unpack_dual(ours(*duals)).tangent, result[1])
        assert forward_ad.unpack_dual(ours(*values)).tangent is None


def test_jacobians():
    values = tuple(x.detach() for x in tensors().values())
    every = tuple(range(len(values)))
    expected = jacrev(theirs, every)(*values)
    torch.testing.assert_close(jacrev(ours, every)(*values), expected)
    torch.testing.assert_close(jacfwd(ours, every)(*values), expected)


def test_functional_gradients_of_a_layer_are_those_of_backward():
    up = FADE(4).double()
    en, de = torch.randn(2, 4, 5, 6).double(), torch.randn(2, 4, 3, 3).double()
    up(en, de).square().sum().backward()
    weights = {name: p.detach() for name, p in up.named_parameters()}

    def loss(weights, en, de):
        return functional_call(up, weights, (en, de)).square().sum()

    for name, x in grad(loss)(weights, en, de).items():
        torch.testing.assert_close(x, up.get_parameter(name).grad)
    each = vmap(grad(loss), (None, 0, 0))(weights, en[:, None], de[:, None])
    for name, x in each.items():
        torch.testing.assert_close(x.sum(0), up.get_parameter(name).grad)


def test_forward_mode_of_a_compiled_function():
    de, logits, *_ = (x.detach() for x in tensors().values())

    def tangent(de):
        return jvp(lambda x: gated_reassemble(x, logits), (de,), (torch.ones_like(de),))[1]

    compiled = torch.compile(tangent, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(de), tangent(de))
    assert tangent(de).any()


def test_transforms_check_their_operands():
    with pytest.raises(ValueError, match='do not fit'):
        vmap(reassemble)(torch.randn(2, 1, 3, 4, 5), torch.randn(2, 1, 9, 4, 9))


@pytest.mark.parametrize('wrong', ['batch', 'size', 'kernels', 'logits_de', 'gate', 'en'])
def test_a_fake_refuses_what_the_operator_refuses(wrong):
    shapes = dict(
        de=[1, 3, 4, 5],
        logits=[1, 9, 8, 10],
        logits_de=[1, 9, 4, 5],
        gate=[1, 1, 4, 5],
        en=[1, 3, 8, 10],
    )
    if wrong == 'batch':
        shapes['de'][0] = 2
    elif wrong == 'size':
        shapes['logits'][2:] = [10, 99]
    elif wrong == 'kernels':
        shapes['logits'][1] = 10
    else:
        shapes[wrong][3] += 1
    for device in ('cpu', 'meta'):
        arguments = {name: torch.empty(x, device=device) for name, x in shapes.items()}
        with pytest.raises(ValueError, match=r'must have|do not fit'):
            gated_reassemble(**arguments)


def test_reassembly_is_counted():
    """As the batched matrix product of K*K kernels and points that it is, twice in backward."""
    de, logits = torch.randn(2, 3, 4, 5), torch.randn(2, 25, 8, 10, requires_grad=True)
    product = 2 * 2 * 3 * 25 * 8 * 10
    with FlopCounterMode(display=False) as forward:
        out = gated_reassemble(de.requires_grad_(), logits)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert forward.get_total_flops() == product
    assert backward.get_total_flops() == 2 * product


def test_a_symbolic_trace_records_one_call():
    class Net(torch.nn.Module):
        def forward(self, de, kernels):
            return reassemble(de, kernels.softmax(1))

    traced = torch.fx.symbolic_trace(Net())
    de, kernels = torch.randn(1, 3, 4, 5), torch.randn(1, 9, 7, 10)
    assert torch.equal(traced(de, kernels), Net()(de, kernels))
    calls = [node.target for node in traced.graph.nodes if node.op == 'call_function']
    assert calls == [reassemble]
