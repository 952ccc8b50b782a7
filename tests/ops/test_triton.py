"""The GPU kernel against the definition, in Triton's interpreter where there is no GPU.

The interpreter takes about a tenth of a millisecond for every operation on a tile, so shapes are
small. Its tiles are `_INTERPRETED_TILES`: 4 x 8 cells, 8 channels.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from fade_mm.ops import use_backend
from fade_mm.ops.backend import triton as backend
from fade_mm.ops.problem import Problem
from tests import definition
from tests.ops.test_gated_reassemble import NAMES, PARTS, SIZES, make

INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
DEVICE = 'cpu' if INTERPRETED else 'cuda'

triton = pytest.importorskip('triton')
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip('TRITON_INTERPRET=0 needs a GPU', allow_module_level=True)


def full(arguments):
    return [arguments.get(name) for name in NAMES]


def expected(arguments, grad, scale_factor, softmax=True):
    """Output and gradients by the definition, in float64."""
    exact = {name: x.detach().double().requires_grad_() for name, x in arguments.items()}
    out = definition.gated_reassemble(**exact, scale_factor=scale_factor, softmax=softmax)
    return out, torch.autograd.grad(out, list(exact.values()), grad.double())


def assert_matches_definition(arguments, scale_factor=2, softmax=True, grad=None):
    arguments = {name: x.detach() for name, x in arguments.items()}
    de, logits = arguments['de'], arguments['logits']
    if grad is None:
        grad = torch.randn(*de.shape[:2], *logits.shape[2:], dtype=de.dtype)
    out, grads = expected(arguments, grad, scale_factor, softmax)
    on_device = [x if x is None else x.to(DEVICE) for x in full(arguments)]
    problem = Problem(*on_device, scale_factor, softmax)
    given = [x is not None for x in on_device]
    ours = backend.forward(problem)
    torch.testing.assert_close(ours.cpu(), out.to(de.dtype), equal_nan=True)
    our_grads = [x for x in backend.backward(problem, grad.to(DEVICE), given) if x is not None]
    for name, a, b in zip(arguments, our_grads, grads, strict=True):
        x = arguments[name]
        torch.testing.assert_close(
            a.cpu(), b.to(x.dtype), equal_nan=True, msg=lambda text, n=name: f'{n}: {text}'
        )
        assert a.stride() == torch.empty_like(x).stride()
    return ours


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_sizes_match_definition(size):
    *size, scale_factor = size
    assert_matches_definition(make(*size, n=1, k=3, dtype=torch.float32), scale_factor)


@pytest.mark.parametrize('k', [1, 5, 7])
def test_kernel_sizes_match_definition(k):
    assert_matches_definition(make(4, 6, 2, 3, n=1, k=k, dtype=torch.float32))


@pytest.mark.parametrize('parts', PARTS, ids=str)
@pytest.mark.parametrize('softmax', [True, False])
def test_parts_match_definition_with_and_without_softmax(parts, softmax):
    arguments = make(5, 6, 2, 3, n=1, k=3, parts=parts, dtype=torch.float32)
    assert_matches_definition(arguments, softmax=softmax)


@pytest.mark.parametrize('name', NAMES)
def test_nan_stays_where_the_definition_has_it(name):
    arguments = {x: v.detach() for x, v in make(9, 9, 5, 5, n=1, k=3, dtype=torch.float32).items()}
    arguments[name][0, -1, 1, -1] = torch.nan
    assert_matches_definition(arguments)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(('size', 'c'), [((10, 18, 5, 9), 2), ((4, 6, 2, 3), 9)], ids=str)
def test_several_tiles_match_definition(size, c, memory_format):
    """In space and over the channels, the last ones not full."""
    arguments = {
        name: x.to(memory_format=memory_format)
        for name, x in make(*size, n=1, c=c, k=3, dtype=torch.float32).items()
    }
    out = assert_matches_definition(arguments)
    assert out.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_match_definition(dtype):
    assert_matches_definition(make(5, 6, 3, 3, n=1, c=8, k=3, dtype=dtype))


def test_mixed_dtypes_match_definition():
    arguments = make(5, 6, 3, 3, n=1, k=3, dtype=torch.float32)
    for name, dtype in (('logits', torch.bfloat16), ('gate', torch.float16), ('en', torch.float16)):
        arguments[name] = arguments[name].to(dtype)
    assert_matches_definition(arguments)


def test_any_strides_match_definition():
    """Transposed and mixed memory formats, and a gradient that is one number."""
    arguments = make(5, 6, 2, 3, n=1, k=3, dtype=torch.float32)
    arguments['de'] = arguments['de'].mT.contiguous().mT
    arguments['logits'] = arguments['logits'].to(memory_format=torch.channels_last)
    arguments['en'] = arguments['en'][:, :, :, :1].expand(-1, -1, -1, 6)
    arguments['gate'] = arguments['gate'].mT.contiguous().mT
    assert_matches_definition(arguments, grad=torch.ones(()).expand(1, 3, 5, 6))


def test_offsets_beyond_32_bits():
    """Rows that lie 2**30 elements apart; only the pages in use take memory."""
    arguments = make(3, 4, 3, 4, n=1, c=1, k=1, dtype=torch.float16)
    storage = torch.empty(2**31 + 4, dtype=torch.float16)
    far = storage.as_strided((1, 1, 3, 4), (0, 0, 2**30, 1)).copy_(arguments['en'].detach())
    de, logits, logits_de, gate = (x.detach() for x in full(arguments)[:4])
    near, ours = (
        backend.forward(Problem(de, logits, logits_de, gate, en, 1, True))
        for en in (far.contiguous(), far)
    )
    assert torch.equal(ours, near)


choose_kernel = backend._kernel.__wrapped__  # without the choices of earlier tests


def run_tuned(monkeypatch, fastest, memory_format):
    """Results and tiles where timing finds that candidate to be the fastest of each kernel."""
    used = []

    def spy(*key):
        used.append(choose_kernel(*key))
        return used[-1]

    def bench(tuner, *_, config, **__):
        return config is not tuner.configs[fastest % len(tuner.configs)]

    monkeypatch.setattr(backend, '_kernel', spy)
    monkeypatch.setattr(backend, '_is_interpreted', lambda: False)
    monkeypatch.setattr(triton.runtime.autotuner.Autotuner, '_bench', bench)
    arguments = make(4, 6, 2, 3, n=1, c=8, k=3, dtype=torch.float32).values()
    arguments = [x.detach().to(DEVICE, memory_format=memory_format) for x in arguments]
    grad = torch.randn(1, 8, 4, 6, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    problem = Problem(*arguments, 2, True)
    out, grads = backend.forward(problem), backend.backward(problem, grad, [True] * 5)
    return [out, *grads], [str(kernel.best_config) for kernel, _ in used]


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=str)
def test_deterministic_algorithms_are_obeyed_whatever_the_timing_says(memory_format, monkeypatch):
    def runs():
        return [run_tuned(monkeypatch, fastest, memory_format) for fastest in range(3)]

    tiles = [tiles for _, tiles in runs()]
    assert all(a != b for a, b in zip(tiles[0], tiles[1], strict=True)), 'timing has no say here'
    try:
        torch.use_deterministic_algorithms(True)
        (first, first_tiles), *rest = runs()
    finally:
        torch.use_deterministic_algorithms(False)
    assert first_tiles == tiles[0]
    for results, used in rest:
        assert used == first_tiles
        assert all(map(torch.equal, results, first))


def test_empty_batch():
    arguments = [x.detach().to(DEVICE) for x in make(8, 8, 4, 4, n=0).values()]
    problem = Problem(*arguments, 2, True)
    out = backend.forward(problem)
    assert out.shape == (0, 3, 8, 8)
    grads = backend.backward(problem, out, [True] * 5)
    assert [x.shape for x in grads] == [x.shape for x in arguments]


def test_says_why_it_cannot_run(monkeypatch):
    x = torch.zeros(1)
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    assert backend.why_not(x, x.half()) is None
    assert backend.why_not(x, x.int()) == 'it has no kernel for torch.int32'
    monkeypatch.delenv('TRITON_INTERPRET')
    assert backend.why_not(x) == 'the tensors are on cpu, and TRITON_INTERPRET=1 is not set'


def test_imports_and_says_so_without_triton(monkeypatch):
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    monkeypatch.setitem(sys.modules, 'triton', None)
    spec = importlib.util.spec_from_file_location('fade_mm.ops.backend.afresh', backend.__file__)
    afresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(afresh)
    assert afresh.why_not(torch.zeros(1)) == 'triton is not installed: pip install triton'


def compiled(tmp_path, *arguments):
    """Of each kernel: name, axis that is contiguous, index of its tiles, registers, bytes."""
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'tests.ops.compile_triton', *arguments],
        env=os.environ | {'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return [line.split() for line in run.stdout.splitlines()]


def test_kernels_compile_for_a_gpu(tmp_path):
    """Not all that the interpreter runs is legal in a kernel."""
    names = ['forward', 'backward_kernels', 'backward_de']
    found = [(name, axis) for name, axis, *_ in compiled(tmp_path)]
    assert found == [(name, axis) for axis in ('points', 'channels') for name in names]


@pytest.mark.slow
def test_kernels_in_use_stay_in_registers(tmp_path):
    """K 5 and scale 2, each tile; the bounds are what Triton 3.9 gave for sm_90."""
    lines = compiled(tmp_path, '--every-tile')
    assert len(lines) == sum(map(len, backend._TILES.values()))
    most = {'forward': 0, 'backward_kernels': 128, 'backward_de': 128}
    for name, axis, index, _, memory in lines:
        assert int(memory) <= most[name], (name, axis, index)


def test_operators_obey_torch_library():
    operators = torch.ops.fade_mm
    tensors = make(3, 4, 2, 2, n=1, k=3, dtype=torch.float32).values()
    tensors = [x.detach().to(DEVICE) for x in tensors]
    grad = torch.randn(1, 3, 3, 4, device=DEVICE)
    with use_backend('triton'):
        torch.library.opcheck(
            operators.gated_reassemble_backward.default, (grad, *tensors, 2, True, [True] * 5)
        )
        tensors = [x.requires_grad_() for x in tensors]
        torch.library.opcheck(operators.gated_reassemble.default, (*tensors, 2, True))
