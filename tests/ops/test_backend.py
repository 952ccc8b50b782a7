"""Which backend computes, and what is said where one cannot."""

import asyncio
import warnings
from contextvars import ContextVar
from itertools import product
from threading import Thread

import pytest
import torch

from fade_mm.ops import backend, backends, gated_reassemble, reassemble, use_backend
from fade_mm.ops.backend import cpu, reference
from fade_mm.ops.problem import Problem

DE, LOGITS = torch.randn(1, 3, 4, 5), torch.randn(1, 9, 8, 10)


@pytest.fixture(autouse=True)
def no_preference(monkeypatch):
    """The choice is what is tested, whatever ``--backend`` or the environment asks for."""
    monkeypatch.setattr(backend, '_preferred', ContextVar('backend', default=None))
    monkeypatch.delenv('FADE_MM_BACKEND', raising=False)
    backend._of_environment.cache_clear()
    yield
    backend._of_environment.cache_clear()


def spy(names, name, compute):
    def called(*arguments):
        names.append(name)
        return compute(*arguments)

    return called


@pytest.fixture
def chosen(monkeypatch):
    """The names of the backends that have computed, in turn."""
    names = []
    for name, module in backend.BACKENDS.items():
        for step in ('forward', 'backward'):
            monkeypatch.setattr(module, step, spy(names, name, getattr(module, step)))
    return names


def test_the_cpu_is_built():
    """Everything else passes without it."""
    assert cpu.is_built()
    assert cpu.instruction_sets()[-1] == 'baseline'


def test_the_first_backend_that_can_is_chosen():
    assert backend.select(DE, LOGITS) is cpu
    assert backend.select(DE.half(), LOGITS) is reference
    assert 'float16' in backends(DE.half(), LOGITS)['cpu']
    assert backends(DE, LOGITS)['reference'] is None
    assert 'CPUs only' in backends(DE.to('meta'))['cpu']


def test_the_old_module_is_another_name():
    from fade_mm.ops import dispatch

    assert dispatch.BACKENDS is backend.BACKENDS
    assert dispatch.select(None, DE, LOGITS, None) is cpu
    assert dispatch.select('reference', DE, None) is reference
    with pytest.raises(ValueError, match="no backend 'cuda'"):
        dispatch.check_backend('cuda')


def test_the_argument_goes_before_the_context(chosen):
    gated_reassemble(DE, LOGITS)
    with use_backend('reference'):
        gated_reassemble(DE, LOGITS)
        reassemble(DE, LOGITS, backend='cpu')
    gated_reassemble(DE, LOGITS)
    assert chosen == ['cpu', 'reference', 'cpu', 'cpu']


def test_backward_runs_on_the_backend_of_forward(chosen):
    with use_backend('reference'):
        out = gated_reassemble(DE, LOGITS.clone().requires_grad_())
    out.sum().backward()
    gated_reassemble(DE, LOGITS.clone().requires_grad_(), backend='reference').sum().backward()
    assert chosen == ['reference'] * 4


def test_a_context_holds_for_its_own_thread(chosen):
    def elsewhere():
        gated_reassemble(DE, LOGITS)

    with use_backend('reference'):
        thread = Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert chosen == ['cpu']


def test_contexts_of_two_tasks_may_overlap(chosen):
    async def task(name, before, after):
        with use_backend(name):
            await asyncio.sleep(before)
            gated_reassemble(DE, LOGITS)
            await asyncio.sleep(after)
        gated_reassemble(DE, LOGITS)

    async def both():
        await asyncio.gather(task('reference', 0.02, 0), task(None, 0.01, 0.04))

    asyncio.run(both())
    assert chosen == ['cpu', 'reference', 'cpu', 'cpu']


def test_the_environment_chooses_for_a_program(chosen, monkeypatch):
    monkeypatch.setenv('FADE_MM_BACKEND', 'reference')
    gated_reassemble(DE, LOGITS)
    gated_reassemble(DE, LOGITS, backend='cpu')
    assert chosen == ['reference', 'cpu']


def test_a_wrong_environment_is_named(monkeypatch):
    monkeypatch.setenv('FADE_MM_BACKEND', 'cuda')
    with pytest.raises(ValueError, match="FADE_MM_BACKEND: there is no backend 'cuda', only cpu"):
        gated_reassemble(DE, LOGITS)


def test_a_compiled_function_may_ask_for_a_backend():
    def function(de, logits):
        with use_backend('reference'):
            return reassemble(de, logits, backend='cpu')

    compiled = torch.compile(function, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(DE, LOGITS), function(DE, LOGITS))


def test_an_exported_program_holds_no_backend(chosen):
    class Layer(torch.nn.Module):
        def forward(self, de, logits):
            return reassemble(de, logits.softmax(1), backend='reference')

    with use_backend('reference'):
        program = torch.export.export(Layer(), (DE, LOGITS))
    assert 'reference' not in str(program.graph)
    chosen.clear()
    program.module()(DE, LOGITS)
    assert chosen == ['cpu']


@pytest.mark.parametrize('name', ['reference', 'cpu', 'triton'])
@pytest.mark.parametrize('needed', list(product([True, False], repeat=5))[:-1], ids=str)
def test_needed_gradients_alone_are_computed(name, needed):
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 3, 3, 2), (1, 9, 5, 4), (1, 9, 3, 2), (1, 1, 3, 2), (1, 3, 5, 4)]
    tensors = [torch.randn(x, generator=generator) for x in shapes]
    reason = backend.BACKENDS[name].why_not(*tensors)
    if reason:
        pytest.skip(reason)
    problem = Problem(*tensors, 2, True)
    grad = torch.randn(1, 3, 5, 4, generator=generator)
    every = backend.BACKENDS[name].backward(problem, grad, [True] * 5)
    some = backend.BACKENDS[name].backward(problem, grad, list(needed))
    for a, b, is_needed in zip(some, every, needed, strict=True):
        assert torch.equal(a, b) if is_needed else a is None


def test_autograd_asks_for_what_is_needed(monkeypatch):
    asked = []
    monkeypatch.setattr(
        cpu, 'backward', lambda *x: asked.append(tuple(x[2])) or reference.backward(*x)
    )
    for is_needed in ([True, False], [False, True]):
        inputs = [x.clone().requires_grad_(y) for x, y in zip((DE, LOGITS), is_needed, strict=True)]
        gated_reassemble(*inputs).sum().backward()
    assert asked == [(True, False, False, False, False), (False, True, False, False, False)]


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="no backend 'cuda', only cpu, triton, "):
        gated_reassemble(DE, LOGITS, backend='cuda')
    with pytest.raises(ValueError, match="no backend 'cuda'"), use_backend('cuda'):
        pass


def test_a_forced_backend_that_cannot_says_why():
    with pytest.raises(RuntimeError, match=r"'cpu' cannot compute this: .* not in torch.float16"):
        gated_reassemble(DE.half(), LOGITS.half(), backend='cpu')


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(ValueError, match="no instruction set 'mmx'"):
        cpu._kernels.use_instruction_set('mmx')


def test_without_the_cpu_plain_pytorch_runs_and_one_warning_says_so(monkeypatch):
    expected = gated_reassemble(DE, LOGITS)
    monkeypatch.setattr(cpu, '_kernels', None)
    monkeypatch.setattr(cpu, '_import_error', 'No module named _cpu', raising=False)
    backend._warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r'pip install --no-deps'):
        out = gated_reassemble(DE, LOGITS)
    torch.testing.assert_close(out, expected)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        gated_reassemble(DE, LOGITS)
    with pytest.raises(RuntimeError, match='installed without it'):
        gated_reassemble(DE, LOGITS, backend='cpu')


def test_a_compiled_program_checks_the_shapes_that_it_meets():
    compiled = torch.compile(
        lambda de, logits, logits_de: gated_reassemble(de, logits, logits_de=logits_de),
        fullgraph=True,
        dynamic=True,
        backend='aot_eager',
    )
    compiled(DE, LOGITS, torch.randn(1, 9, 4, 5))
    with pytest.raises(ValueError, match=r'logits_de must have shape \(1, 9, 4, 5\), got'):
        compiled(DE, LOGITS, torch.randn(1, 9, 3, 5))


@pytest.mark.parametrize(
    'shapes', [((2, 3, 4, 5), (1, 9, 8, 10)), ((1, 3, 0, 0), (1, 9, 0, 0)), ((1, 3, 4, 5),) * 2]
)
def test_the_operator_itself_checks_shapes(shapes):
    de, logits = (torch.randn(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r'must have|do not fit'):
        torch.ops.fade_mm.gated_reassemble(de, logits, None, None, None, 2, True)


def test_the_operators_backward_checks_shapes():
    backward = torch.ops.fade_mm.gated_reassemble_backward
    needed = [True, True, False, False, False]
    with pytest.raises(ValueError, match='grad must have shape'):
        backward(torch.randn(1, 3, 8, 9), DE, LOGITS, None, None, None, 2, True, needed)
    with pytest.raises(ValueError, match='do not fit'):
        backward(
            torch.randn(1, 3, 8, 10), LOGITS, LOGITS[..., :5], None, None, None, 2, True, needed
        )
