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

import torch
from mmengine.runner import CheckpointLoader

from .errors import SetupError, unavailable
from .unpickling import allowed_globals


def use_safe_checkpoints() -> None:
    """Make all of mmengine's checkpoint loaders read data only; further calls do nothing."""
    for prefix, load in list(CheckpointLoader._schemes.items()):
        if not getattr(load, 'is_guarded', False):
            CheckpointLoader.register_scheme(prefix, _guarded(load), force=True)


def _guarded(load: Callable) -> Callable:
    """A loader of mmengine's that executes nothing, and whose errors say what is wrong."""

    @wraps(load)
    def guarded(filename: str, *args, **kwargs) -> dict:
        try:
            with _data_only():
                return _without_programs(load(filename, *args, **kwargs), filename)
        except UnpicklingError as error:
            named = re.search(r'GLOBAL (\S+)|function (.+)', str(error))
            if named:
                raise SetupError(
                    f'{filename} is refused: a checkpoint of weights does not need '
                    f'{named[1] or named[2]}, which it names and which might run code'
                ) from error
            # torch's message without its advice
            reason = re.search(r'(?s:.*error: \s*)?(.*)', str(error))[1]
            raise _unreadable(filename, reason) from error
        except ImportError as error:
            raise unavailable(filename, f'{error.name} is not installed') from error
        except OSError as error:
            raise unavailable(filename, str(error)) from error
        except (EOFError, LookupError, RuntimeError, ValueError, TypeError) as error:
            reason = f'{type(error).__name__}: {error}'.removesuffix(': ')
            raise _unreadable(filename, reason) from error

    guarded.is_guarded = True
    return guarded


def _unreadable(filename: str, reason: str) -> SetupError:
    return unavailable(filename, f'it is no checkpoint that torch can read ({reason})')


def _without_programs(checkpoint: object, filename: str) -> dict:
    """The checkpoint without the configs in it, which mmengine would execute as Python.

    Its outer dicts are copied item by item: the attributes of a dict come from the file too.
    """
    checkpoint = _plain(checkpoint, filename)
    for path in (['meta'], ['message_hub', 'runtime_info']):
        part = checkpoint
        for key in path:
            if key not in part:
                break
            part[key] = _plain(part[key], f'{key} of {filename}')
            part = part[key]
        else:
            part.pop('config', None)
            part.pop('cfg', None)
    return checkpoint


def _plain(mapping: object, name: str) -> dict:
    if not isinstance(mapping, dict):
        raise SetupError(f'{name} must be a dict, got {type(mapping).__name__}')
    return {key: dict.__getitem__(mapping, key) for key in dict.keys(mapping)}


@contextmanager
def _data_only() -> Iterator[None]:
    """Hold `torch.load` to data, also where a caller asks it to execute."""
    names = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = '1'
    try:
        with torch.serialization.safe_globals(allowed_globals()):
            yield
    finally:
        del os.environ[names[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})
