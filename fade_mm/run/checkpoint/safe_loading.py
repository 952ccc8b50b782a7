"""Checkpoints are read as data: nothing that a file contains is executed.

mmengine 0.10.7 cannot read its own checkpoints under torch >= 2.6, whose default unpickler admits
tensors and little else, and its loader for URLs runs whatever a file contains. Here every scheme
of mmengine goes through torch's data-only unpickler, which is told of the few names that mmengine's
own checkpoints need. Each call asks for data by itself and says by itself what it admits, so no
other thread, no environment variable and no list of somebody else's has a part in it.
"""

import re
from collections.abc import Callable
from functools import wraps
from pickle import UnpicklingError

from mmengine.infer import BaseInferencer
from mmengine.runner import CheckpointLoader
from torch import _weights_only_unpickler

from fade_mm.errors import SetupError, unavailable

from .schemes import LOADERS
from .unpickling import allowed_globals, reading_data


def use_safe_checkpoints() -> None:
    """Make all of mmengine's checkpoint loaders read data only, in this process, for good.

    Everything that loads by mmengine is held to it: runners, inferencers, the libraries'
    ``init_detector`` and ``init_model``. Further calls do nothing. A scheme that somebody else has
    registered reads as its author wrote it; what it returns is stripped of programs, too.
    """
    for prefix, load in list(CheckpointLoader._schemes.items()):
        if not getattr(load, 'is_guarded', False):
            CheckpointLoader.register_scheme(prefix, _guarded(load), force=True)
    torchs = _weights_only_unpickler._get_user_allowed_globals
    if not getattr(torchs, 'is_guarded', False):
        _weights_only_unpickler._get_user_allowed_globals = _admitting(torchs)
        BaseInferencer._init_model = _asking_for_a_config(BaseInferencer._init_model)


def read_checkpoint(filename: str) -> dict:
    """What a checkpoint holds, read as data, on the CPU.

    Args:
        filename: Path or URL, in any scheme of mmengine's.

    Raises:
        SetupError: there is none, it cannot be read, or it names code.
    """
    use_safe_checkpoints()
    return CheckpointLoader.load_checkpoint(filename, map_location='cpu')


def _admitting(torchs: Callable) -> Callable:
    """What the unpickler admits beside tensors: ours, and nothing else, while it reads for us."""
    ours = allowed_globals()

    @wraps(torchs)
    def admitted() -> dict:
        return ours if reading_data.get() else torchs()

    admitted.is_guarded = True
    return admitted


def _asking_for_a_config(init: Callable) -> Callable:
    """An inferencer's way to its model, which would execute a config found in the weights."""

    @wraps(init)
    def init_model(self, cfg, weights, device='cpu'):
        if not cfg:
            raise SetupError(
                f'no model comes from {weights} alone: the config in a checkpoint is code, and is '
                f"not run. Give the config, too: {type(self).__name__}('CONFIG.py', {weights!r})"
            )
        return init(self, cfg, weights, device)

    return init_model


def _guarded(load: Callable) -> Callable:
    """A loader of mmengine's that executes nothing, and whose errors say what is wrong."""
    data_only = LOADERS.get(load, load)

    @wraps(load)
    def guarded(filename: str, map_location=None, **kwargs) -> dict:
        try:
            return _without_programs(data_only(filename, map_location, **kwargs), filename)
        except SetupError:
            raise
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
            raise unavailable(filename, f'{error.name or error} is not installed') from error
        except OSError as error:
            raise unavailable(filename, str(error)) from error
        except Exception as error:  # whatever a malformed file makes of the unpickler
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
