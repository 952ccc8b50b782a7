"""What the plain PyTorch path promises beside its results."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fade_mm.ops.backend import reference
from fade_mm.ops.problem import Problem
from tests import definition
from tests.ops.test_gated_reassemble import make


class _LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that anything made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.largest = max(self.largest, x.untyped_storage().nbytes() // x.element_size())
        return out


def test_nothing_larger_than_the_output_is_made():
    """Inside of the operator, whose steps are hidden from the outside."""
    arguments = {
        name: x.detach() for name, x in make(32, 32, 16, 16, n=1, c=64, dtype=torch.float32).items()
    }
    size = arguments['en'].numel()
    problem = Problem(*arguments.values(), 2, True)
    with _LargestTensor() as mode:
        out = reference.forward(problem)
        reference.backward(problem, torch.ones_like(out), [True] * 5)
    assert 0 < mode.largest <= size
    with _LargestTensor() as mode:
        definition.gated_reassemble(**arguments)
    assert mode.largest > 20 * size  # unfolding is noticed
