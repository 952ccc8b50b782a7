"""The operator's decomposition against the definition, eager and exported with dynamic sizes."""

import pytest
import torch
from torch.export import Dim, export

from fade_mm.ops import decomposition, gated_reassemble, reassemble
from fade_mm.ops.decomposition import decompose
from tests import definition
from tests.ops.test_gated_reassemble import NAMES, PARTS, SIZES, make, sizes
from tests.properties import given, settings, st


def decomposed(scale_factor, softmax=True, **arguments):
    full = [arguments.get(name) for name in NAMES]
    return decomposition.forward(*full, scale_factor, softmax)


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
    torch.testing.assert_close(
        decomposed(scale_factor, **arguments),
        definition.gated_reassemble(**arguments, scale_factor=scale_factor),
    )


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('parts', PARTS, ids=str)
def test_without_softmax_it_matches_definition(size, parts):
    *size, scale_factor = size
    arguments = make(*size, parts=parts)
    torch.testing.assert_close(
        decomposed(scale_factor, softmax=False, **arguments),
        definition.gated_reassemble(**arguments, scale_factor=scale_factor, softmax=False),
    )


def test_infinite_values_stay_infinite():
    """Where the gate lets both features through, as in the definition."""
    arguments = {name: x.detach() for name, x in make(7, 9, 4, 5, parts=NAMES).items()}
    arguments['de'][0, 0, 1, 1] = arguments['en'][0, 1, 0, 0] = torch.inf
    expected = definition.gated_reassemble(**arguments)
    assert expected.isinf().any()
    torch.testing.assert_close(decomposed(2, **arguments), expected, equal_nan=True)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype):
    arguments = make(7, 9, 4, 5, c=8, dtype=dtype)
    exact = {name: x.double() for name, x in arguments.items()}
    ours = decomposed(2, **arguments)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, definition.gated_reassemble(**exact).to(dtype))


class Operator(torch.nn.Module):
    def __init__(self, scale_factor):
        super().__init__()
        self.scale_factor = scale_factor

    def forward(self, de, logits, logits_de=None, gate=None, en=None):
        if logits_de is None:
            return reassemble(de, logits, self.scale_factor)
        rest = dict(logits_de=logits_de, gate=gate, en=en)
        return gated_reassemble(de, logits, **rest, scale_factor=self.scale_factor)


@pytest.mark.parametrize(
    ('size', 'scale_factor', 'parts'),
    [
        ((6, 12, 3, 6), 2, NAMES),
        ((5, 11, 3, 6), 2, NAMES),
        ((4, 6, 4, 6), 2, NAMES),
        ((6, 12, 2, 4), 3, NAMES),
        ((7, 11, 3, 5), 2, NAMES[:2]),
    ],
    ids=['exact', 'odd', 'same', 'x3', 'reassemble'],
)
def test_one_exported_graph_serves_all_legal_sizes(size, scale_factor, parts):
    """Whatever sizes it was exported with, and with those of ``en`` and ``de`` independent."""
    arguments = make(*size, parts=parts)
    dims = {x: {2: Dim('H'), 3: Dim('W')} for x in ('de', 'logits_de', 'gate')}
    dims |= {x: {2: Dim('h'), 3: Dim('w')} for x in ('logits', 'en')}
    model = Operator(scale_factor)
    shapes = {name: dims[name] for name in parts}
    program = decompose(export(model, (), arguments, dynamic_shapes=shapes))
    calls = [node.target for node in program.graph.nodes if node.op == 'call_function']
    assert not any('fade_mm' in str(target) for target in calls)
    module = program.module()
    for *size, s in [*SIZES, (12, 18, 12 // scale_factor, 18 // scale_factor, scale_factor)]:
        is_same = size[:2] == size[2:]
        if (s == scale_factor or is_same) and min(size) > 1:  # torch.export excludes 1
            arguments = make(*size, parts=parts)
            torch.testing.assert_close(module(**arguments), model(**arguments))
