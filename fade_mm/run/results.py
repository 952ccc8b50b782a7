"""Runs as data: the file of all runs (``docs/results.yml``), which tables are made from.

A file of runs has a list under ``runs``, at its end, whose entries have the fields of `FIELDS`, in
that order. What is not known of a run is null.
"""

import datetime
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from fade_mm.errors import SetupError

TASKS = (
    'segmentation',
    'detection',
    'instance',
    'panoptic',
    'depth',
    'matting',
    'reconstruction',
)


@dataclass(frozen=True)
class Field:
    """A field of an entry.

    Args:
        what: What its value must be, for messages.
        fits: Whether a value is that.
        is_needed: Whether the value may not be null. Default: False.
    """

    what: str
    fits: Callable[[object], bool]
    is_needed: bool = False


def _is_scores(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and type(x) in (int, float) and math.isfinite(x)
        for name, x in value.items()
    )


def _is_curve(value: object) -> bool:
    return isinstance(value, dict) and all(
        type(step) is int and _is_scores(scores) for step, scores in value.items()
    )


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))


_TEXT = ('text', _matches(r'\S.*'))
FIELDS = {
    'task': Field(f'one of {", ".join(TASKS)}', TASKS.__contains__, True),
    'data': Field(*_TEXT, True),
    'host': Field(*_TEXT, True),
    'upsampler': Field(*_TEXT, True),
    'seed': Field('an integer', lambda value: type(value) is int),
    'config': Field(
        "a config's path in this repository, or LIBRARY::PATH",
        _matches(r'[^/\\~].*\.py'),
        True,
    ),
    'options': Field(
        'values that override the config, by name', lambda x: isinstance(x, dict), True
    ),
    'budget': Field(
        "as in '1500 iterations' or '12 epochs'", _matches(r'\d+ (iteration|epoch)s?'), True
    ),
    'scores': Field('numbers by name, at least one', lambda x: bool(x) and _is_scores(x), True),
    'curve': Field('earlier scores by iteration or epoch', _is_curve, True),
    'machine': Field(*_TEXT),
    'threads': Field('an integer', lambda value: type(value) is int),
    'date': Field('a date, as in 2026-11-25', lambda value: type(value) is datetime.date),
    'fade_mm': Field(
        'a commit, with +dirty where files were changed, or a release',
        _matches(r'[0-9a-f]{7,40}(\+dirty)?|\d+\.\d+\S*'),
    ),
    'torch': Field('a version', _matches(r'\d+\.\d+\S*')),
    'checkpoint_sha256': Field('64 hexadecimal digits', _matches('[0-9a-f]{64}')),
    'note': Field(*_TEXT),
}


def check_entry(entry: object, where: str) -> None:
    """Raise unless an entry has all fields, and values that fit them.

    Args:
        entry: What was read.
        where: Where it stands, for the message.

    Raises:
        SetupError: it has not.
    """
    if not isinstance(entry, dict):
        raise SetupError(f'{where} must be a mapping of {", ".join(FIELDS)}, got {entry!r}')
    for name in [*FIELDS, *entry]:
        if (name in FIELDS) != (name in entry):
            fault = 'is missing' if name in FIELDS else 'is no field of a run'
            raise SetupError(f'{where}: {name} {fault}; the fields are {", ".join(FIELDS)}')
    for name, field in FIELDS.items():
        value = entry[name]
        if value is None and field.is_needed:
            raise SetupError(f'{where}: {name} is not known; write it there, {field.what}')
        if value is not None and not field.fits(value):
            raise SetupError(f'{where}: {name} must be {field.what}, got {value!r}')


def read_runs(path: Path) -> list[dict]:
    """The entries of a file of runs.

    Raises:
        SetupError: the file cannot be read, an entry is wrong, or two are of the same run.
    """
    return _parse(_read(path), path)


def append_run(path: Path, result: Path) -> None:
    """Append a run to the file of runs; what is there already stays as it is, to the byte.

    Args:
        path: The file of runs.
        result: What the run has left (see `ResultHook`).

    Raises:
        SetupError: a file cannot be read, the entry is wrong, or the run is there already.
    """
    entry = _load(_read(result), result)
    check_entry(entry, str(result))
    runs = _read(path)
    known = _parse(runs, path)
    if _identity(entry) in map(_identity, known):
        raise SetupError(
            f'{result}: {path} has this run already (config, options, seed, checkpoint)'
        )
    text = f'{runs.rstrip()}\n{dump([entry])}'
    if _parse(text, path) != [*known, entry]:
        raise SetupError(f'{path}: runs must be the last of its keys, in block style')
    write(path, text)


def dump(content: object) -> str:
    """Entries as text: a field a line, small mappings in braces."""
    return yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=80
    )


def write(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}')
    unfinished.write_text(text, encoding='utf-8')
    os.replace(unfinished, path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except OSError as error:
        raise SetupError(f'{path} cannot be read: {error.strerror}') from error


def _load(text: str, path: Path) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SetupError(f'{path} is no YAML: {" ".join(str(error).split())}') from error


def _parse(text: str, path: Path) -> list[dict]:
    content = _load(text, path)
    runs = content.get('runs') if isinstance(content, dict) else None
    if not isinstance(runs, list):
        raise SetupError(f'{path} must have a list under runs')
    identities = []
    for number, entry in enumerate(runs, 1):
        where = f'{path}, run {number}'
        check_entry(entry, where)
        identity = _identity(entry)
        if identity in identities:
            raise SetupError(f'{where} is the same as run {identities.index(identity) + 1}')
        identities.append(identity)
    return runs


def _identity(entry: dict) -> tuple:
    """What no two runs have in common."""
    return tuple(entry[name] for name in ('config', 'options', 'seed', 'checkpoint_sha256'))
