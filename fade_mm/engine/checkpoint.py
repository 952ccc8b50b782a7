"""Checkpoints are read as data: nothing that a file contains is executed.

mmengine 0.10.7 cannot read its own checkpoints under torch >= 2.6, whose default unpickler admits
tensors and little else, and its loader for URLs runs whatever a file contains. Here every scheme
of mmengine goes through torch's data-only unpickler, which is told of the few names that mmengine's
own checkpoints need.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pickle import UnpicklingError
from urllib.error import URLError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from numpy._core import multiarray

from .errors import SetupError, unavailable

_STATISTICS = ('min', 'max', 'current', 'mean')


def use_safe_checkpoints() -> None:
    """Make all of mmengine's checkpoint loaders read data only; further calls do nothing."""
    for prefix, load in list(CheckpointLoader._schemes.items()):
        if not getattr(load, 'is_guarded', False):
            CheckpointLoader.register_scheme(prefix, _guarded(load), force=True)


def _guarded(load: Callable) -> Callable:
    """A loader of mmengine's that executes nothing, and whose errors say what to do."""

    @wraps(load)
    def guarded(filename: str, *args, **kwargs):
        try:
            with _data_only():
                checkpoint = load(filename, *args, **kwargs)
        except UnpicklingError as error:
            named = re.search(r'GLOBAL (\S+)|function (.+)', str(error))
            raise SetupError(
                f'{filename} is refused: a checkpoint of weights does not need '
                f'{(named[1] or named[2]) if named else error}, which it names and which might '
                'run code'
            ) from error
        except ImportError as error:
            raise unavailable(filename, f'{error.name} is not installed') from error
        except URLError as error:
            raise unavailable(filename, str(error)) from error
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
            # Runner.resume would execute it as Python.
            checkpoint['meta'].pop('config', None)
        return checkpoint

    guarded.is_guarded = True
    return guarded


@contextmanager
def _data_only() -> Iterator[None]:
    """Hold `torch.load` to data, also where a caller asks it to execute."""
    names = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = '1'
    try:
        with torch.serialization.safe_globals(_allowed()):
            yield
    finally:
        del os.environ[names[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _allowed() -> list:
    """What mmengine's checkpoints name beyond what torch admits: log buffers of numpy arrays."""
    scalars = np.typecodes['AllInteger'] + np.typecodes['Float'] + '?'
    functions = [
        (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')  # before and after numpy 2
        for name in ('_reconstruct', 'scalar')
    ]
    return [
        HistoryBuffer,
        (_statistic, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in scalars},
        *functions,
    ]


def _statistic(owner: type, name: str) -> Callable:
    """What `getattr` may do in a checkpoint: fetch a statistic of `HistoryBuffer`."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(f'function getattr({owner!r}, {name!r})')
    return getattr(owner, name)
