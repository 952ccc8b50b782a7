"""Under autocast, the operator computes with the dtypes it is given and accumulates in float32."""

import pytest
import torch

from fade_mm.ops import gated_reassemble, use_backend
from fade_mm.ops.backend import reference
from fade_mm.upsamplers import FADE
from tests.devices import DEVICES
from tests.ops.test_gated_reassemble import make

BACKENDS = [('cpu', 'cpu'), ('reference', 'cpu'), *(('triton', x) for x in DEVICES[1:])]


@pytest.mark.parametrize(('backend', 'device'), BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_layer_agrees_with_float32_and_keeps_the_dtype_of_de(backend, device, dtype):
    torch.manual_seed(0)
    up = FADE(8).to(device)
    en, de = torch.randn(2, 8, 7, 9).to(device), torch.randn(2, 8, 4, 5).to(device, dtype)
    grad = torch.randn(2, 8, 7, 9).to(device)

    def run(en, de):
        en, de = (x.detach().requires_grad_() for x in (en, de))
        out = up(en, de)
        grads = torch.autograd.grad(out, [en, de, *up.parameters()], grad.to(out.dtype))
        return out, grads

    with use_backend(backend):
        exact, exact_grads = run(en, de.float())
        with torch.autocast(device, torch.bfloat16):
            out, grads = run(en, de)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), exact, atol=0.02, rtol=0.02)
    assert [x.dtype for x in grads[:2]] == [torch.float32, dtype]
    for a, b in zip(grads, exact_grads, strict=True):
        assert (a - b).norm() < 0.02 * b.norm()


def test_autocast_is_off_inside_of_the_operator(monkeypatch):
    """Else a matrix product in a backend would silently run in bfloat16."""
    seen = []
    for name in ('forward', 'backward'):
        original = getattr(reference, name)

        def spy(*args, original=original):
            seen.append(torch.is_autocast_enabled('cpu'))
            return original(*args)

        monkeypatch.setattr(reference, name, spy)
    arguments = make(7, 9, 4, 5, dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        gated_reassemble(**arguments, backend='reference').sum().backward()
        assert torch.is_autocast_enabled('cpu')
    assert seen == [False, False]


@pytest.mark.parametrize('half', [[], ['logits', 'logits_de', 'gate'], ['de', 'en']], ids=str)
def test_the_operator_obeys_torch_library_under_autocast(half):
    arguments = make(7, 9, 4, 5, dtype=torch.float32)
    for name in half:
        arguments[name] = arguments[name].detach().bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        torch.library.opcheck(
            torch.ops.fade_mm.gated_reassemble.default, (*arguments.values(), 2, True)
        )


def test_a_layer_compiles_in_one_graph_under_autocast():
    torch.manual_seed(0)
    up = FADE(8)
    en, de = torch.randn(2, 8, 7, 9), torch.randn(2, 8, 4, 5)
    compiled = torch.compile(up, fullgraph=True, backend='aot_eager')
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(compiled(en, de), up(en, de))
