"""Calls that go straight to the CPU kernel: which do, and that nothing but the way differs."""

from contextlib import nullcontext

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from fade_mm.ops import eager, gated_reassemble, operator, reassemble, use_backend
from fade_mm.ops.backend import cpu

from .test_backend import spy

pytestmark = pytest.mark.skipif(not cpu.is_built(), reason='the CPU kernel is not built')
NAMES = ('logits_de', 'gate', 'en')


@pytest.fixture(autouse=True)
def no_preference():
    """Whatever ``--backend`` asks for."""
    with use_backend('cpu'):
        yield


@pytest.fixture
def calls(monkeypatch):
    """The names of the registered operators that are called, in turn."""
    names = []
    for name in ('gated_reassemble', 'gated_reassemble_backward'):
        monkeypatch.setattr(operator, name, spy(names, name, getattr(operator, name)))
    return names


def operands(size=(7, 9), low=(4, 5), channels=6, dtype=torch.float32, last=False):
    generator = torch.Generator().manual_seed(0)
    memory_format = torch.channels_last if last else torch.contiguous_format
    shapes = [(channels, *low), (9, *size), (9, *low), (1, *low), (channels, *size)]
    return [
        torch.randn(2, *x, generator=generator)
        .to(dtype, memory_format=memory_format)
        .requires_grad_()
        for x in shapes
    ]


def call(tensors, **options):
    return gated_reassemble(*tensors[:2], **dict(zip(NAMES, tensors[2:], strict=True)), **options)


@pytest.mark.parametrize('last', [False, True], ids=['contiguous', 'channels last'])
@pytest.mark.parametrize('dtype', list(cpu.DTYPES), ids=str)
@pytest.mark.parametrize('kept', [5, 3, 2])
def test_results_are_those_of_the_registered_operator_bit_for_bit(kept, dtype, last, calls):
    tensors = operands(dtype=dtype, last=last)
    tensors[kept:] = [None] * (5 - kept)
    given = [x for x in tensors if x is not None]

    def results(y):
        return [y, *torch.autograd.grad(y, given, torch.ones_like(y).cumsum(3))]

    ours = results(call(tensors))
    with torch.no_grad():
        assert torch.equal(call(tensors), ours[0])
    with torch.inference_mode():
        assert torch.equal(call([None if x is None else x.clone() for x in tensors]), ours[0])
    assert calls == []
    theirs = results(torch.ops.fade_mm.gated_reassemble(*tensors, 2, True))
    assert all(map(torch.equal, ours, theirs))
    assert [x.stride() for x in ours] == [x.stride() for x in theirs]


def test_kernels_without_a_softmax_and_the_same_size(calls):
    de, kernels = operands(size=(4, 5))[:2]
    y = reassemble(de, kernels)
    expected = torch.ops.fade_mm.gated_reassemble(de, kernels, None, None, None, 2, False)
    assert torch.equal(y, expected)
    assert calls == []


class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'context',
    [
        lambda: FlopCounterMode(display=False),
        Functions,
        torch.profiler.profile,
        lambda: use_backend('reference'),
    ],
    ids=['dispatch mode', 'function mode', 'profiler', 'another backend'],
)
def test_whoever_looks_on_sees_the_operator(context, calls):
    tensors = operands()
    expected = call(tensors)
    with context():
        torch.testing.assert_close(call(tensors), expected)
    assert calls == ['gated_reassemble']


class Ours(torch.Tensor):
    pass


@pytest.mark.parametrize('index', range(5))
@pytest.mark.parametrize(
    'change',
    [
        lambda x: x.as_subclass(Ours),
        lambda x: torch.complex(x, -x).conj().imag,
        lambda x: x.half(),
        lambda x: x.to('meta'),
    ],
    ids=['subclass', 'lazy negation', 'float16', 'meta'],
)
def test_tensors_that_are_more_than_values_are_not_taken(index, change):
    tensors = [x.detach() for x in operands()]
    assert eager.takes(None, *tensors)
    tensors[index] = change(tensors[index])
    assert not eager.takes(None, *tensors)


def test_a_lazily_negated_feature_is_read_right():
    tensors = [x.detach() for x in operands()]
    expected = call(tensors)
    tensors[0] = torch.complex(tensors[0], -tensors[0]).conj().imag
    assert tensors[0].is_neg()
    torch.testing.assert_close(call(tensors), expected)


def test_transforms_do_not_come_here():
    tensors = [x.detach() for x in operands()]
    seen = []

    def function(de):
        seen.append(eager.takes(None, de, *tensors[1:]))
        return call([de, *tensors[1:]]).sum()

    torch.func.grad(function)(tensors[0])
    with torch.autograd.forward_ad.dual_level():
        function(torch.autograd.forward_ad.make_dual(tensors[0], tensors[0]))
    torch.jit.trace(function, tensors[0], check_trace=False)
    assert seen[:3] == [False] * 3


def test_backward_that_somebody_looks_on_goes_by_the_registered_operator(calls):
    tensors = operands()
    y = call(tensors)
    expected = torch.autograd.grad(y, tensors, torch.ones_like(y), retain_graph=True)
    assert calls == []
    with FlopCounterMode(display=False) as counter:
        grads = torch.autograd.grad(y, tensors, torch.ones_like(y))
    assert counter.get_total_flops() > 0
    assert calls == ['gated_reassemble_backward']
    assert all(map(torch.equal, grads, expected))


def test_backward_runs_on_the_backend_of_its_context(calls):
    tensors = operands()
    y = call(tensors, backend='cpu')
    with use_backend('reference'):
        torch.autograd.grad(y, tensors, torch.ones_like(y))
    assert calls == []  # forward was told which


def test_gradients_have_gradients():
    tensors = operands(dtype=torch.float64)
    results = []
    for function in (call, lambda x: torch.ops.fade_mm.gated_reassemble(*x, 2, True)):
        y = function(tensors)
        grads = torch.autograd.grad(y.square().sum(), tensors, create_graph=True)
        seconds = torch.autograd.grad(sum(x.square().sum() for x in grads), tensors)
        results.append([*grads, *seconds])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_kernel_written_in_python_records_no_graph():
    """Below autograd, where a tensor may still say that it needs a gradient."""
    with torch._C._AutoDispatchBelowAutograd():
        assert not call(operands()).requires_grad


def test_a_pytorch_that_is_not_known_goes_by_the_registered_operator(monkeypatch, calls):
    monkeypatch.setattr(eager, 'IS_KNOWN', False)
    call(operands())
    assert calls == ['gated_reassemble']


def test_this_pytorch_is_known():
    assert eager.IS_KNOWN


@pytest.mark.parametrize('anew', [False, True])
def test_what_does_not_fit_is_refused_each_time(anew):
    de, logits, logits_de, gate, en = operands()
    for _ in range(2):
        with pytest.raises(ValueError, match=r'logits_de must have shape \(2, 9, 4, 5\), got'):
            gated_reassemble(de, logits, logits_de=logits_de[..., :4])
        with pytest.raises(ValueError, match='got gate without en'):
            gated_reassemble(de, logits, gate=gate)
        with pytest.raises(TypeError, match='scale_factor must be an int, got True'):
            gated_reassemble(de, logits, scale_factor=True)
        with nullcontext() if anew else torch.no_grad():
            call([de, logits, logits_de, gate, en])


def test_threads_share_a_problem():
    """The same numbers whatever their number is, of tiles that are taken in any order."""
    tensors = operands((64, 60), (32, 30))
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            y = call(tensors)
            results.append([y, *torch.autograd.grad(y, tensors, torch.ones_like(y))])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])
    assert torch.equal(results[1][0], results[0][0])
