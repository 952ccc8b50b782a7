"""The CPU kernel's products of matrices, against those of float64."""

import pytest
import torch

from fade_mm.ops.backend import cpu

pytestmark = pytest.mark.skipif(not cpu.is_built(), reason='the CPU kernel is not built')

# Batch, rows, depth, columns: whole vectors and panels, parts of them, several tiles.
SIZES = [
    (1, 1, 1, 1),
    (2, 3, 0, 5),
    (2, 3, 5, 7),
    (1, 8, 32, 48),
    (3, 13, 20, 49),
    (2, 25, 64, 3000),
]


@pytest.fixture(params=cpu.instruction_sets())
def instruction_set(request):
    with cpu.use_instruction_set(request.param):
        yield


@pytest.fixture(params=[torch.float32, torch.float64], ids=['float32', 'float64'])
def dtype(request):
    torch.manual_seed(0)
    return request.param


@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('size', SIZES)
def test_multiply(size, dtype):
    n, rows, depth, columns = size
    a, b = torch.randn(rows, depth, dtype=dtype), torch.randn(n, depth, columns, dtype=dtype)
    bias = torch.randn(rows, dtype=dtype)
    exact = a.double() @ b.double()
    torch.testing.assert_close(cpu.multiply(a, b).double(), exact, **within(dtype, depth))
    found = cpu.multiply(a.T.contiguous().T, b, bias)
    torch.testing.assert_close(
        found.double(), exact + bias.double()[:, None], **within(dtype, depth)
    )


@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('size', SIZES)
def test_correlate(size, dtype):
    n, rows, columns, points = size
    a, b = torch.randn(n, rows, points, dtype=dtype), torch.randn(n, columns, points, dtype=dtype)
    exact = (a.double() @ b.double().mT).sum(0)
    torch.testing.assert_close(cpu.correlate(a, b).double(), exact, **within(dtype, n * points))


def within(dtype, terms):
    """What sums of so many products of standard normal numbers may be off."""
    return dict(rtol=0, atol=64 * terms**0.5 * torch.finfo(dtype).eps)


def test_shapes_are_those_of_features():
    y = cpu.multiply(torch.ones(4, 3), torch.ones(2, 3, 5, 7))
    assert torch.equal(y, torch.full((2, 4, 5, 7), 3.0))
    assert torch.equal(cpu.correlate(y, torch.ones(2, 3, 5, 7)), torch.full((4, 3), 210.0))


def test_nothing_is_nothing():
    assert cpu.multiply(torch.ones(4, 3), torch.ones(0, 3, 5, 7)).shape == (0, 4, 5, 7)
    assert cpu.multiply(torch.ones(4, 3), torch.ones(2, 3, 0, 7)).shape == (2, 4, 0, 7)
    assert torch.equal(cpu.correlate(torch.ones(0, 4, 5), torch.ones(0, 3, 5)), torch.zeros(4, 3))
    assert torch.equal(cpu.correlate(torch.ones(2, 4, 0), torch.ones(2, 3, 0)), torch.zeros(4, 3))


@pytest.mark.parametrize('threads', [1, 2, 3])
def test_results_repeat_bit_for_bit(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(0)
        a, b, c = torch.randn(25, 64), torch.randn(2, 64, 3000), torch.randn(2, 25, 3000)
        for function in (lambda: cpu.multiply(a, b), lambda: cpu.correlate(c, b)):
            first = function()
            assert all(torch.equal(function(), first) for _ in range(5))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize('depth', [1, 64])
def test_a_product_is_the_same_with_any_number_of_threads(depth):
    torch.manual_seed(0)
    a, b = torch.randn(25, depth), torch.randn(2, depth, 3000)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            found.append(cpu.multiply(a, b))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(y, found[0]) for y in found)


def test_not_a_number_concerns_its_own_column_alone():
    b = torch.ones(1, 3, 100)
    b[0, 1, 40] = torch.nan
    found = cpu.multiply(torch.ones(5, 3), b).isnan()
    assert found[0, :, 40].all()
    assert found.sum() == 5
