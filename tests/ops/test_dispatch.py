"""Which backend computes, and what is said where one cannot."""

import warnings

import pytest
import torch

from fade_mm.ops import backends, cpu_kernel, dispatch, gated_reassemble, reassemble, use_backend

DE, LOGITS = torch.randn(1, 3, 4, 5), torch.randn(1, 9, 8, 10)


@pytest.fixture(autouse=True)
def no_preference(monkeypatch):
    """The choice is what is tested, whatever ``--backend`` asks for."""
    monkeypatch.setattr(dispatch, '_preferred', None)


def test_the_cpu_kernel_is_built():
    """Everything else passes without it."""
    assert cpu_kernel.is_built()
    assert cpu_kernel.instruction_sets()[-1] == 'baseline'


def test_the_first_backend_that_can_is_chosen():
    assert dispatch.select(None, DE, LOGITS, None) is dispatch.BACKENDS['cpu']
    assert dispatch.select(None, DE.half(), LOGITS) is dispatch.BACKENDS['reference']
    assert 'float16' in backends(DE.half(), LOGITS)['cpu']
    assert backends(DE, LOGITS)['reference'] is None
    assert 'CPUs only' in backends(DE.to('meta'))['cpu']


def test_the_argument_goes_before_the_context(monkeypatch):
    chosen = []
    select = dispatch.select
    monkeypatch.setattr(
        dispatch, 'select', lambda name, *x: chosen.append(name) or select(name, *x)
    )
    gated_reassemble(DE, LOGITS)
    with use_backend('reference'):
        gated_reassemble(DE, LOGITS)
        reassemble(DE, LOGITS, backend='cpu')
    gated_reassemble(DE, LOGITS)
    assert chosen == [None, 'reference', 'cpu', None]


def test_backward_runs_on_the_backend_of_forward(monkeypatch):
    chosen = []
    select = dispatch.select
    monkeypatch.setattr(
        dispatch, 'select', lambda name, *x: chosen.append(name) or select(name, *x)
    )
    with use_backend('reference'):
        out = gated_reassemble(DE, LOGITS.clone().requires_grad_())
    out.sum().backward()
    assert chosen == ['reference', 'reference']


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
        cpu_kernel._cpu.use_instruction_set('mmx')


def test_without_the_cpu_kernel_plain_pytorch_runs_and_one_warning_says_so(monkeypatch):
    expected = gated_reassemble(DE, LOGITS)
    monkeypatch.setattr(cpu_kernel, '_cpu', None)
    monkeypatch.setattr(cpu_kernel, '_import_error', 'No module named _cpu', raising=False)
    dispatch._warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r'pip install --no-build-isolation'):
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
        torch.ops.fade_mm.gated_reassemble(de, logits, None, None, None, 2, True, 'cpu')


def test_the_operators_backward_checks_shapes():
    backward = torch.ops.fade_mm.gated_reassemble_backward
    with pytest.raises(ValueError, match='grad must have shape'):
        backward(torch.randn(1, 3, 8, 9), DE, LOGITS, None, None, None, 2, True, 'cpu')
    with pytest.raises(ValueError, match='do not fit'):
        backward(torch.randn(1, 3, 8, 10), LOGITS, LOGITS[..., :5], None, None, None, 2, True)
