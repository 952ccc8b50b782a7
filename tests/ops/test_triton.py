"""The GPU kernels against the definition: compiled where there is a GPU, else interpreted.

The interpreter takes about a tenth of a millisecond for every operation on a tile, so shapes are
small. Its tiles are `tiles.INTERPRETED`: of 2 x 4 groups of cells.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from fade_mm.ops import use_backend
from fade_mm.ops.backend import triton as backend
from fade_mm.ops.backend.triton import launch, tiles
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
    storage = torch.empty(2**31 + 4, dtype=torch.float16, device=DEVICE)
    far = storage.as_strided((1, 1, 3, 4), (0, 0, 2**30, 1)).copy_(arguments['en'].detach())
    de, logits, logits_de, gate = (x.detach().to(DEVICE) for x in full(arguments)[:4])
    near, ours = (
        backend.forward(Problem(de, logits, logits_de, gate, en, 1, True))
        for en in (far.contiguous(), far)
    )
    assert torch.equal(ours, near)


VECTORS = [
    (torch.contiguous_format, torch.float32, (4, 16, 2, 8), 3, 2),  # 4 points, of 2 cells
    (torch.contiguous_format, torch.bfloat16, (2, 16, 1, 8), 3, 2),  # 8 points, of 4 cells
    (torch.contiguous_format, torch.float32, (5, 8, 5, 8), 2, 2),  # 4 cells of one point
    (torch.contiguous_format, torch.float32, (6, 12, 3, 6), 2, 2),  # 4 points, but 2 of `de`
    (torch.contiguous_format, torch.float32, (3, 8, 1, 2), 2, 4),  # 4 points of one cell
    (torch.channels_last, torch.float32, (5, 10, 3, 5), 12, 2),  # 4 channels, odd cells
    (torch.channels_last, torch.bfloat16, (4, 6, 2, 3), 16, 2),  # 8 channels
    (torch.channels_last, torch.float32, (7, 7, 3, 3), 4, 2),  # a column of cells left over
]


@pytest.mark.parametrize('k', [3, 5])
@pytest.mark.parametrize('case', VECTORS, ids=str)
def test_vectors_match_definition(case, k):
    """Whatever fits into 16 bytes, in each direction."""
    memory_format, dtype, size, c, step = case
    arguments = {
        name: x.detach().to(memory_format=memory_format)
        for name, x in make(*size, n=1, c=c, k=k, dtype=dtype).items()
    }
    grad = torch.randn(1, c, *size[:2]).to(dtype).to(memory_format=memory_format)
    assert_matches_definition(arguments, step, grad=grad)


def tiles_of(kernel, layout, itemsize):
    """All tiles that a kernel has in the table, on any architecture."""
    key = kernel, layout, itemsize
    chosen = [of_arch[key] for of_arch in tiles.CHOSEN.values() if key in of_arch]
    found = []
    for tile in tiles.CANDIDATES[key] + chosen:
        if tile not in found:
            found.append(tile)
    return found


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=str)
def test_each_tile_of_the_table_computes_the_same(memory_format, dtype, monkeypatch):
    """Groups, lanes and rows are cut in other ways, and some tiles are larger than the feature."""
    arguments = make(4, 8, 2, 4, n=1, c=8, k=3, dtype=dtype)
    arguments = [x.detach().to(DEVICE, memory_format=memory_format) for x in arguments.values()]
    grad = torch.randn(1, 8, 4, 8, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)
    problem = Problem(*arguments, 2, True)
    expected = [backend.forward(problem), *backend.backward(problem, grad, [True] * 5)]
    layout = tiles.LAYOUTS[memory_format == torch.channels_last]
    used, kernels = set(), {key[0] for key in tiles.CANDIDATES}
    every = {kernel: tiles_of(kernel, layout, dtype.itemsize) for kernel in kernels}
    for index in range(max(map(len, every.values()))):

        def choose(*key, index=index):
            chosen = min(index, len(tiles_of(*key)) - 1)
            used.add((*key, chosen))
            return tiles_of(*key)[chosen]

        monkeypatch.setattr(backend, '_chooser', lambda _, choose=choose: choose)
        found = [backend.forward(problem), *backend.backward(problem, grad, [True] * 5)]
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    assert len(used) == sum(map(len, every.values()))


def test_results_repeat_bit_for_bit():
    arguments = [x.detach().to(DEVICE) for x in make(9, 9, 5, 5, k=3, dtype=torch.float32).values()]
    problem, grad = Problem(*arguments, 2, True), torch.ones(2, 3, 9, 9, device=DEVICE)
    first, second = (
        [backend.forward(problem), *backend.backward(problem, grad, [True] * 5)] for _ in range(2)
    )
    assert all(map(torch.equal, first, second))


def test_vectors_are_as_wide_as_memory_allows():
    def widths(*tensors):
        return [launch._vector([x], 3) for x in tensors]

    x = torch.zeros(2, 3, 8, 16)
    assert widths(x, x.half(), x.double(), x[..., :6], x[..., 2:6], x[..., 1:9]) == [
        4,
        8,
        2,
        2,
        2,
        1,
    ]
    assert widths(x.mT, x[..., ::2], x[:, :, :, :1].expand_as(x)) == [1, 1, 1]
    assert launch._vector([x, None, x[..., :6]], 3) == 2


@pytest.mark.parametrize(
    ('capability', 'expected'), [((7, 5), 1), ((8, 0), 2), ((8, 9), 2), ((9, 0), 3), ((12, 0), 3)]
)
def test_a_gpu_has_the_tiles_of_its_architecture_or_an_older_one(capability, expected, monkeypatch):
    key = 'forward', 'contiguous', 4
    monkeypatch.setattr(tiles, 'CANDIDATES', {key: [dict(sums=1)]})
    chosen = {'sm_80': {key: dict(sums=2)}, 'sm_90': {key: dict(sums=3)}}
    monkeypatch.setattr(tiles, 'CHOSEN', chosen)
    assert tiles.tile_for(*key, capability)['sums'] == expected
    assert tiles.tile_for(*key[:2], 8, capability)['sums'] == expected


@pytest.mark.skipif(INTERPRETED, reason='the interpreter would take days; there is no GPU')
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=str)
def test_more_elements_than_31_bits_can_count_cuda(memory_format):
    """Forward and backward where output and offsets exceed them, at the far end."""
    if torch.cuda.mem_get_info()[0] < 36 * 2**30:
        pytest.skip('it takes 36 GiB of memory')
    c, side, low = 256, 2912, 1456  # 2.17e9 elements

    def make_large(channels, size):
        x = torch.empty(1, channels, size, size, dtype=torch.bfloat16, device=DEVICE)
        return x.contiguous(memory_format=memory_format).normal_()

    sizes = [(c, low), (25, side), (25, low), (1, low), (c, side), (c, side)]
    *tensors, grad = (make_large(*size) for size in sizes)
    out = backend.forward(Problem(*tensors, 2, True))
    grads = backend.backward(Problem(*tensors, 2, True), grad, [True] * 5)
    near = 16  # points of `de`, of which the first ones lack neighbours
    crops = [x[..., -near * (x.shape[2] // low) :, -near * (x.shape[2] // low) :] for x in tensors]
    arguments = dict(zip(NAMES, (x.float() for x in crops), strict=True))
    grad = grad[..., -2 * near :, -2 * near :]
    expected_out, expected_grads = expected(arguments, grad, 2)
    torch.testing.assert_close(out[..., -20:, -20:], expected_out[..., -20:, -20:].bfloat16())
    for a, b in zip(grads, expected_grads, strict=True):
        factor = a.shape[2] // low
        a, b = (x[..., -8 * factor :, -8 * factor :] for x in (a, b))
        torch.testing.assert_close(a, b.bfloat16(), rtol=0.02, atol=0.02)


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


def test_says_that_triton_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'triton', None)
    backend.device_kernels.cache_clear()
    try:
        assert backend.why_not(torch.zeros(1, device=DEVICE)) == (
            'triton is not installed: pip install triton'
        )
    finally:
        backend.device_kernels.cache_clear()


def compiled(program, tmp_path):
    """What a program prints as JSON in a process of its own, where Triton compiles."""
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program],
        env=os.environ | {'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


LEGAL = """
import json, torch, triton.language as tl
from fade_mm.ops.backend.triton import report
for layout, dtype in (('contiguous', torch.float32), ('channels_last', torch.bfloat16)):
    for name in report.KERNELS:
        tile = report.tiles.INTERPRETED[name]
        call = report.call_of(name, layout, dtype, tile, kernel_size=3, step=1, channels=24)
        wide = call.options | dict(INDEX=tl.int64)
        report.compiled(call._replace(options=wide) if layout == 'channels_last' else call, 'sm_90')
print(json.dumps(report.KERNELS))
"""


def test_kernels_compile_for_a_gpu(tmp_path):
    """Not all that the interpreter runs is legal in a kernel; with offsets of 32 and 64 bits."""
    assert len(compiled(LEGAL, tmp_path)) == 4


REACH = """
import json
from fade_mm.ops.backend.triton import report
print(json.dumps(list(report.rows(['sm_90'], kernels={}, first=True))))
"""


@pytest.mark.slow
@pytest.mark.parametrize('kernels', [('forward', 'backward_products'), ('backward_de',)], ids=str)
def test_kernels_in_use_have_registers_to_spare_and_wide_loads(kernels, tmp_path):
    """K 5, scale 2 and 256 channels: nothing spilled, half of a thread's registers, 16 bytes."""
    rows = compiled(REACH.format(kernels), tmp_path)
    assert len(rows) == 4 * len(kernels)
    for row in rows:
        assert row['spills'] == 0, row
        assert row['registers'] <= 128, row
        assert row['load_bytes'] == 16, row


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
