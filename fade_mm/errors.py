"""Errors for the person who set a run up."""

import os
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

_HERE = Path(__file__).parent
_MENDABLE = (AssertionError, ImportError, KeyError, RuntimeError, TypeError, ValueError)


class SetupError(Exception):
    """Something in a config, a data set or a checkpoint that the user can mend.

    The tools print its message alone, without a stack trace.
    """


def unavailable(weights: str, reason: str) -> SetupError:
    """The error for weights that cannot be had; for remote ones, with what to do instead."""
    message = f'{weights} cannot be loaded: {reason}'
    if '://' in weights:
        message += (
            '. For a backbone, --cfg-options model.backbone.init_cfg.checkpoint=FILE takes the '
            'weights from a local file, and model.backbone.init_cfg=None trains from scratch, if '
            'nothing stays frozen (of a ResNet, also model.backbone.frozen_stages=-1 '
            'model.backbone.norm_eval=False); some configs have model.pretrained=FILE or None for '
            'it'
        )
    return SetupError(message)


def debugging() -> bool:
    """Whether errors keep their stack traces: ``FADE_MM_DEBUG=1``, which ``--traceback`` sets."""
    return os.environ.get('FADE_MM_DEBUG', '0') != '0'


@contextmanager
def naming_build_errors() -> Iterator[None]:
    """Turn what building a model from a wrong config raises into a `SetupError`."""
    try:
        yield
    except _MENDABLE as error:
        if is_bug(error):
            raise
        raise SetupError(f'the model cannot be built: {explained(error) or error}') from error


def is_bug(error: Exception) -> bool:
    """Whether an error is a fault of fade_mm: a line of its code failed that raises nothing.

    Nor is it where a host's class does not take the arguments that one of ours passes on to it.
    """
    place = traceback.extract_tb(error.__traceback__)[-1]
    is_users = place.line.startswith(('raise', 'super().__init__('))
    return Path(place.filename).is_relative_to(_HERE) and not is_users


def explained(error: Exception) -> str | None:
    """What an error of the libraries says of a config or an installation; ``None`` of others."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    builders = [x for x in frames if x.f_code.co_filename.endswith('build_functions.py')]
    if builders and builders[-1] is frames[-1] and isinstance(error, KeyError):
        return unregistered(frames[-1].f_locals.get('obj_type'), frames[-1].f_locals['registry'])
    if builders and re.search(r'__init__\(\) (got an unexpected|missing)', str(error)):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    if builders and place[0].name == '__init__' and place[0].line.startswith(('raise', 'assert')):
        refuses = type(frames[-1].f_locals['self']).__name__  # one of its arguments
        return f'{refuses}: {str(error) or place[0].line}'
    if isinstance(error, ImportError):
        return str(error)
    if 'find_unused_parameters' in str(error):
        return (
            'some parameters got no gradient, which data parallel training has to be told: set '
            '--cfg-options find_unused_parameters=True'
        )
    channels = re.search(
        r'weight of size .* to have \d+ channels, but got \d+ channels', str(error)
    )
    if channels:
        return (
            f'a convolution gets another number of channels than it takes ({channels[0]}): check '
            'in_channels in the config (model.backbone, model.neck), or, if it is the first one, '
            'how pictures are read: color_type, and bgr_to_rgb, which makes them three'
        )
    return None


def unregistered(name: str, registry) -> str:
    """That no registry has a name, and the nearest one that exists."""
    while registry.parent is not None:
        registry = registry.parent
    known = {name: name for name in registry.module_dict}
    for scope, child in registry.children.items():
        known |= {f'{scope}.{name}': f'{scope}.{name}' for name in child.module_dict}
        known |= {name: f'{scope}.{name}' for name in child.module_dict if name not in known}
    lower = {key.lower(): full for key, full in known.items()}
    near = get_close_matches(name.lower(), lower, 1)
    hint = f'; there is {lower[near[0]]}' if near else ''
    return f"no {registry.name} is called '{name}'{hint} (custom_imports brings in one of yours)"


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with what it counts: ``1 file``, ``2 files``.

    Args:
        number: How many there are.
        one: What follows a 1.
        many: What follows any other number. Default: ``one`` with an s.
    """
    return f'{number} {one if number == 1 else many or one + "s"}'


def first_of(names: Sequence[str]) -> str:
    """The first five of some names in brackets, and whether there are more."""
    return f'({", ".join(names[:5])}{", ..." * (len(names) > 5)})'


def listed(faults: Sequence[str]) -> str:
    """The first ten of a message's items on lines of their own, and how many more there are."""
    more = [f'and {len(faults) - 10} more'] if len(faults) > 10 else []
    return '\n  '.join([*faults[:10], *more])
