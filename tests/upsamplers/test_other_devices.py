"""What devices without kernels of ours are asked for, and whether Apple's GPU has it.

Layers run on a device that computes nothing, and is no CPU. What PyTorch is asked for there is
written down, and looked up in PyTorch's own table of its operators.
"""

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fade_mm.ops import operator
from fade_mm.ops.backend import reference
from fade_mm.ops.problem import Problem
from fade_mm.upsamplers import build_upsampler
from tests.layers import every_upsampler


class Reference(torch.autograd.Function):
    """The operator as the reference computes it, forward and backward."""

    @staticmethod
    def forward(ctx, *arguments):
        operator.setup_context(ctx, arguments, None)
        return reference.forward(Problem(*arguments))

    @staticmethod
    def backward(ctx, grad):
        problem = Problem(*ctx.saved_tensors, *ctx.options)
        grads = reference.backward(problem, grad, ctx.needs_input_grad[:5])
        return *grads, *(None for _ in ctx.options)


class Recorder(TorchDispatchMode):
    """The operators that are called on the device, and the dtypes of what they return."""

    def __init__(self):
        super().__init__()
        self.operators, self.dtypes = set(), set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else [result]
        there = [x for x in results if isinstance(x, torch.Tensor) and x.device.type != 'cpu']
        if there:
            self.operators.add(str(function))
            self.dtypes.update(x.dtype for x in there)
        return result


@pytest.fixture(scope='module')
def table():
    """PyTorch's own, of its operators by name: which kernels there are."""
    yaml = pytest.importorskip('yaml')
    torchgen = pytest.importorskip('torchgen')
    file = Path(torchgen.__file__).parent / 'packaged/ATen/native/native_functions.yaml'
    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    rows = yaml.load(file.read_text(), loader)
    return {row['func'].partition('(')[0]: row for row in rows}


def runs_on(device, name, table):
    row = table[name.removeprefix('aten.').removesuffix('.default')]
    while 'structured_delegate' in row:
        row = table[row['structured_delegate']]
    keys = {key for keys in row.get('dispatch', {'Composite': ''}) for key in keys.split(', ')}
    return device in keys or any(key.startswith('Composite') for key in keys)


@every_upsampler
def test_apples_gpu_is_asked_for_nothing_that_it_lacks(cfg, table, monkeypatch):
    monkeypatch.setattr(operator, 'gated_reassemble', Reference.apply)
    with Recorder() as recorder, torch.device('meta'):
        up = build_upsampler(cfg, 8, 8)
        en, de = (torch.empty(2, 8, *x, requires_grad=True) for x in ((7, 9), (4, 5)))
        up(en, de).sum().backward()
    assert torch.float64 not in recorder.dtypes
    assert len(recorder.operators) > 3
    missing = [x for x in sorted(recorder.operators) if not runs_on('MPS', x, table)]
    assert missing == []
