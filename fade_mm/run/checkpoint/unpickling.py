"""Stand-ins for what mmengine's checkpoints name beyond what torch's data-only unpickler admits.

mmengine keeps its log history in `HistoryBuffer` objects, made of numpy arrays and of functions
fetched with `getattr`, and in one-cycle schedules the function that they anneal by. The unpickler
may call whatever it is told to admit with whatever the file says, so it gets these instead, which
can only ever make numbers and arrays of numbers.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pickle import UnpicklingError

import numpy as np
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

_STATISTICS = ('min', 'max', 'current', 'mean')
_ONE_CYCLE = object()  # for the class of one-cycle schedules, which nobody is to call
_ANNEALING = ('_annealing_cos', '_annealing_linear')


reading_data = ContextVar('reading_data', default=False)  # of this thread, or this task, alone


@contextmanager
def data_alone() -> Iterator[None]:
    """What is read inside may hold tensors and `allowed_globals`, whatever others have admitted."""
    token = reading_data.set(True)
    try:
        yield
    finally:
        reading_data.reset(token)


def allowed_globals() -> dict[str, object]:
    """What stands in for the names that the unpickler is told to admit."""
    functions = {'_reconstruct': _Array, 'scalar': _scalar}
    return {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        f'{OneCycleParamScheduler.__module__}.OneCycleParamScheduler': _ONE_CYCLE,
        'builtins.getattr': _function,
        'numpy.ndarray': _Array,
        'numpy.dtype': _DType,
        **{
            f'numpy.{core}.multiarray.{name}': function
            for name, function in functions.items()
            for core in ('core', '_core')  # before and after numpy 2
        },
    }


def _function(owner: object, name: str) -> Callable:
    """For ``getattr``: fetches a statistic of `HistoryBuffer`, or how a cycle is annealed."""
    if owner is _ONE_CYCLE and name in _ANNEALING:
        return getattr(OneCycleParamScheduler, name)
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(f'function getattr({owner!r}, {name!r})')
    return getattr(owner, name)


class _DType:
    """For ``numpy.dtype``: booleans, integers and floating-point numbers."""

    def __init__(self, code: str, *_) -> None:
        if not isinstance(code, str) or not re.fullmatch(r'[<>|=]?(b1|[iuf][1248]|\?)', code):
            raise UnpicklingError(f'function numpy.dtype({code!r})')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """For ``numpy.ndarray`` and what rebuilds it: an empty array that `__setstate__` fills."""

    def __new__(cls, *_) -> '_Array':
        return super().__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran_order, data = state
        super().__setstate__((1, shape, dtype.dtype, fortran_order, bytes(data)))

    def __reduce__(self) -> tuple:
        return np.asarray(self).__reduce__()  # saved again, it is an array like any other


def _scalar(dtype: _DType, data: bytes) -> np.generic:
    """For numpy's scalars."""
    return np.frombuffer(data, dtype.dtype)[0]
