"""`fade_mm.ops` against the definition, forward and backward, on every backend."""

from contextlib import nullcontext

import pytest
import torch

from fade_mm.ops import backends, gated_reassemble, reassemble, use_backend
from fade_mm.ops.backend import cpu
from tests import definition
from tests.devices import DEVICES
from tests.properties import given, settings, st

NAMES = ('de', 'logits', 'logits_de', 'gate', 'en')
PARTS = [NAMES[:2], NAMES[:3], (*NAMES[:2], *NAMES[3:]), NAMES]
# (h, w, H, W, scale_factor): even, rounded up, rounded down, both, 1x1, one row, same size, x3, x4
SIZES = [
    (8, 12, 4, 6, 2),
    (7, 9, 4, 5, 2),
    (7, 9, 3, 4, 2),
    (9, 6, 4, 3, 2),
    (1, 1, 1, 1, 2),
    (1, 8, 1, 4, 2),
    (5, 6, 5, 6, 2),
    (11, 7, 4, 2, 3),
    (11, 6, 2, 2, 4),
    (6, 5, 6, 5, 1),
]
# More than one tile and vector, in each direction, and an odd rest; results of more than 4 MiB,
# which are written past the cache, in rows that are aligned and that are not
LARGE = [(21, 601, 11, 300), (70, 79, 35, 40), (208, 144, 104, 72), (175, 163, 88, 82)]


_device = 'cpu'  # of what `make` makes


@pytest.fixture(
    scope='module',
    autouse=True,
    params=[
        'reference',
        *(f'cpu, {name}' for name in cpu.instruction_sets()),
        *(f'reference, {device}' for device in DEVICES[1:]),  # Triton's are in test_triton.py
    ],
)
def backend(request):
    """Each backend, of the CPU kernel each instruction set; with three threads, so with tiles."""
    global _device
    name, _, which = request.param.partition(', ')
    _device = which if which in DEVICES else 'cpu'
    chosen = cpu.use_instruction_set(which) if name == 'cpu' else nullcontext()
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    with use_backend(name), chosen:
        yield name
    torch.set_num_threads(threads)
    _device = 'cpu'


def make(h, w, H, W, n=2, c=3, k=5, dtype=torch.float64, parts=NAMES, seed=0):
    """Random arguments by name, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        'de': (n, c, H, W),
        'logits': (n, k * k, h, w),
        'logits_de': (n, k * k, H, W),
        'gate': (n, 1, H, W),
        'en': (n, c, h, w),
    }
    return {
        name: torch.randn(shapes[name], generator=generator, dtype=dtype)
        .to(_device)
        .requires_grad_()
        for name in parts
    }


def random_like(x):
    """A gradient that belongs to ``x``."""
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype).to(x)


@st.composite
def sizes(draw):
    scale_factor = draw(st.integers(1, 4))
    axes = []
    for _ in range(2):
        size = draw(st.integers(scale_factor, 13))
        axes.append((size, draw(st.sampled_from([size // scale_factor, -(-size // scale_factor)]))))
    (h, H), (w, W) = axes
    return h, w, H, W, scale_factor


def assert_gradients_match(ours, theirs, arguments):
    grad = random_like(ours)
    for name, a, b in zip(
        arguments,
        torch.autograd.grad(ours, list(arguments.values()), grad),
        torch.autograd.grad(theirs, list(arguments.values()), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f'{name}: {text}')


@given(
    sizes(),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from(PARTS),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_shape_matches_definition(size, n, c, k, parts):
    *size, scale_factor = size
    arguments = make(*size, n=n, c=c, k=k, parts=parts)
    ours = gated_reassemble(**arguments, scale_factor=scale_factor)
    theirs = definition.gated_reassemble(**arguments, scale_factor=scale_factor)
    torch.testing.assert_close(ours, theirs)
    assert_gradients_match(ours, theirs, arguments)


@pytest.mark.parametrize('size', LARGE, ids=str)
@pytest.mark.parametrize('parts', [NAMES, NAMES[:3]], ids=['gated', 'ungated'])
def test_many_channels_and_points_match_definition(size, parts):
    arguments = make(*size, n=1, c=37, dtype=torch.float32, parts=parts)
    exact = {name: x.detach().double().requires_grad_() for name, x in arguments.items()}
    ours, theirs = gated_reassemble(**arguments), definition.gated_reassemble(**exact)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    grad = random_like(ours)
    for name, a, b in zip(
        arguments,
        torch.autograd.grad(ours, list(arguments.values()), grad),
        torch.autograd.grad(theirs, list(exact.values()), grad.double()),
        strict=True,
    ):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4, msg=lambda t, n=name: n + t)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('W', [130, 193])
def test_a_narrow_last_tile_matches_definition(W, dtype):
    """One of one or two columns, which could take more rows at a time than the widest.

    Were it to, it would need more memory than that: at 193 columns in both directions, at 130 in
    backward.
    """
    arguments = make(256, 4 * W, 64, W, n=1, c=2, dtype=dtype)
    ours = gated_reassemble(**arguments, scale_factor=4)
    theirs = definition.gated_reassemble(**arguments, scale_factor=4)
    torch.testing.assert_close(ours, theirs)
    assert_gradients_match(ours, theirs, arguments)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_reassemble_matches_definition(size):
    *size, scale_factor = size
    arguments = make(*size, parts=('de', 'logits'))
    ours = reassemble(*arguments.values(), scale_factor)
    theirs = definition.reassemble(*arguments.values(), scale_factor)
    torch.testing.assert_close(ours, theirs)
    assert_gradients_match(ours, theirs, arguments)


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('parts', PARTS, ids=str)
@pytest.mark.parametrize('softmax', [True, False])
def test_the_operator_matches_definition_with_and_without_softmax(size, parts, softmax, backend):
    *size, scale_factor = size
    arguments = make(*size, parts=parts)
    full = [arguments.get(name) for name in NAMES]
    ours = torch.ops.fade_mm.gated_reassemble(*full, scale_factor, softmax)
    theirs = definition.gated_reassemble(*full, scale_factor, softmax)
    torch.testing.assert_close(ours, theirs)
    assert_gradients_match(ours, theirs, arguments)


# (h, w, H, W, scale_factor): rounded up and down, in several bands of each thread's tile
BANDS = [(127, 65, 64, 33, 2), (127, 77, 64, 38, 2), (97, 97, 33, 33, 3), (97, 115, 32, 38, 3)]


@pytest.mark.parametrize('size', BANDS, ids=str)
@pytest.mark.parametrize('softmax', [True, False])
@pytest.mark.parametrize('name', [*NAMES, 'grad'])
@pytest.mark.parametrize('value', ['nan', 'inf'])
def test_what_is_not_finite_stays_where_the_definition_has_it(size, softmax, name, value, backend):
    """One value in the last column, where not every phase has a point, and one before it."""
    *size, scale_factor = size
    arguments = make(*size, n=1, dtype=torch.float32)
    grad = random_like(arguments['en'].detach())
    with torch.no_grad():
        x = grad if name == 'grad' else arguments[name]
        x[0, -1, x.shape[2] // 9, [-1, -3]] = float(value)
    ours = torch.ops.fade_mm.gated_reassemble(*arguments.values(), scale_factor, softmax)
    theirs = definition.gated_reassemble(*arguments.values(), scale_factor, softmax)
    grads = [torch.autograd.grad(out, list(arguments.values()), grad) for out in (ours, theirs)]
    torch.testing.assert_close(ours, theirs, equal_nan=True)
    if (name, value) == ('grad', 'inf'):  # where it is infinite and where NaN, the order decides
        grads = [[x.isfinite() for x in of_all] for of_all in grads]
    for a, b, of in zip(*grads, NAMES, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-4, msg=of)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_gradcheck(size):
    *size, scale_factor = size
    arguments = make(*size, n=1, c=2, k=3)

    def function(de, logits, logits_de, gate, en):
        rest = dict(logits_de=logits_de, gate=gate, en=en)
        return gated_reassemble(de, logits, **rest, scale_factor=scale_factor)

    assert torch.autograd.gradcheck(function, tuple(arguments.values()))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_accumulate_in_float32(dtype, backend):
    arguments = make(7, 9, 4, 5, c=8, dtype=dtype)
    if reason := backends(*arguments.values())[backend]:
        pytest.skip(reason)
    exact = {name: x.detach().double().requires_grad_() for name, x in arguments.items()}
    ours, theirs = gated_reassemble(**arguments), definition.gated_reassemble(**exact)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs.to(dtype))
    grads = torch.autograd.grad(ours.sum(), list(arguments.values()))
    exact_grads = torch.autograd.grad(theirs.sum(), list(exact.values()))
    for name, a, b in zip(arguments, grads, exact_grads, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b.to(dtype), msg=name)


def test_output_has_the_dtype_of_de_beside_half_logits():
    arguments = make(8, 8, 4, 4, dtype=torch.float32)
    for name in ('logits', 'logits_de', 'gate'):
        arguments[name] = arguments[name].detach().bfloat16().requires_grad_()
    out = gated_reassemble(**arguments)
    assert out.dtype == torch.float32
    grads = torch.autograd.grad(out.sum(), list(arguments.values()))
    assert [g.dtype for g in grads] == [x.dtype for x in arguments.values()]


@pytest.mark.parametrize('size', [(8, 12, 4, 6), (7, 9, 3, 5)], ids=str)
def test_channels_last_gives_the_same_and_stays_channels_last(size):
    arguments = make(*size)
    last = {
        name: x.detach().to(memory_format=torch.channels_last).requires_grad_()
        for name, x in arguments.items()
    }
    ours, theirs = gated_reassemble(**last), definition.gated_reassemble(**arguments)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, theirs)
    grad = torch.ones_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, list(last.values()), grad),
        torch.autograd.grad(theirs, list(arguments.values()), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_non_contiguous_inputs():
    arguments = make(8, 12, 4, 6)
    strided = {name: x.mT.contiguous().mT for name, x in arguments.items()}
    torch.testing.assert_close(
        gated_reassemble(**strided), definition.gated_reassemble(**arguments)
    )


def test_empty_batch():
    arguments = make(8, 8, 4, 4, n=0)
    out = gated_reassemble(**arguments)
    out.sum().backward()
    assert out.shape == (0, 3, 8, 8)


def test_a_delta_kernel_is_nearest_upsampling():
    de = torch.randn(1, 4, 5, 6).to(_device)
    kernels = torch.zeros(1, 25, 10, 12).to(_device)
    kernels[:, 12] = 1
    expected = torch.nn.functional.interpolate(de, scale_factor=2, mode='nearest')
    assert torch.equal(reassemble(de, kernels), expected)


def test_an_open_gate_passes_the_encoder_feature():
    arguments = make(8, 8, 4, 4, dtype=torch.float32)
    arguments['gate'] = torch.full_like(arguments['gate'], 100.0)
    assert torch.equal(gated_reassemble(**arguments), arguments['en'])


@pytest.mark.parametrize('parts', [NAMES, NAMES[:2]], ids=len)
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_operators_obey_torch_library(parts, memory_format, backend):
    arguments = make(7, 9, 4, 5, dtype=torch.float32, parts=parts)
    full = [arguments.get(name) for name in NAMES]
    full = [x if x is None else x.detach().to(memory_format=memory_format) for x in full]
    grad = torch.randn(2, 3, 7, 9).to(_device)
    torch.library.opcheck(
        torch.ops.fade_mm.gated_reassemble_backward.default,
        (grad, *full, 2, True, [x is not None for x in full]),
    )
    full = [x if x is None else x.requires_grad_() for x in full]
    torch.library.opcheck(torch.ops.fade_mm.gated_reassemble.default, (*full, 2, True))


def test_compiles_in_one_graph_with_dynamic_sizes():
    compiled = torch.compile(gated_reassemble, fullgraph=True, dynamic=True, backend='aot_eager')
    for size in [(8, 12, 4, 6), (7, 9, 4, 5), (16, 10, 8, 5)]:
        arguments = make(*size)
        ours, theirs = compiled(**arguments), definition.gated_reassemble(**arguments)
        torch.testing.assert_close(ours, theirs)
        assert_gradients_match(ours, theirs, arguments)


GOOD = dict(h=8, w=8, H=4, W=4, dtype=torch.float32)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(de=torch.randn(2, 3, 5, 4)), r'scale_factor=2.*\(2, 25, 8, 8\).*\(2, 3, 5, 4\)'),
        (dict(de=torch.randn(3, 4, 4)), r'de must have shape \(N, C, H, W\)'),
        (dict(de=torch.randn(1, 3, 4, 4)), 'same batch size'),
        (dict(de=torch.randn(2, 0, 4, 4)), 'empty'),
        (dict(logits=torch.randn(2, 24, 8, 8)), r'logits must have K\*K channels'),
        (dict(logits=torch.randn(2, 16, 8, 8)), r'logits must have K\*K channels'),
        (dict(logits_de=torch.randn(2, 25, 8, 8)), 'logits_de must have shape'),
        (dict(gate=torch.randn(2, 3, 4, 4)), r'gate must have shape \(2, 1, 4, 4\)'),
        (dict(en=torch.randn(2, 4, 8, 8)), r'en must have shape \(2, 3, 8, 8\)'),
        (dict(en=None), 'gate without en'),
        (dict(gate=None), 'en without gate'),
        (dict(scale_factor=0), 'scale_factor must be at least 1'),
        (dict(en=torch.randn(2, 3, 8, 8, device='meta')), 'same device'),
        (dict(logits=torch.randn(2, 25, 8, 8, device='meta')), 'same device'),
    ],
)
def test_wrong_values_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        gated_reassemble(**(make(**GOOD) | change))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(de=torch.ones(2, 3, 4, 4, dtype=torch.int64)), 'de must have a floating-point dtype'),
        (dict(logits='kernels'), 'logits must be a tensor, got str'),
        (dict(scale_factor=2.0), 'scale_factor must be an int'),
    ],
)
def test_wrong_types_are_refused(change, message):
    with pytest.raises(TypeError, match=message):
        gated_reassemble(**(make(**GOOD) | change))
