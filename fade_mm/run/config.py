"""Configs as the command-line tools take them."""

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hub import get_config

from fade_mm import shipped, upsamplers
from fade_mm.errors import SetupError, unavailable
from fade_mm.hosts.base import host_of
from fade_mm.hosts.configs import dicts, type_name
from fade_mm.openmmlab import command
from fade_mm.registry import HOSTS

from . import mmengine_fixes

_LOOPS = {  # mmengine takes all parts of a loop or none
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}


_HOSTS_OWN = ('type', 'scale_factor')  # what is not one upsampler's


def load_config(
    name: str, cfg_options: dict | None = None, work_dir: str | None = None, launcher: str = 'none'
) -> Config:
    """Load a config for a run on this machine.

    Args:
        name: Path of a config, name of one of ours (``segformer/segformer_mit-b0_fade_...``, with
            or without ``configs/``, ``.py`` or ``fade_mm::``), or ``LIBRARY::PATH`` for one of a
            host library's own.
        cfg_options: Values that override the config's, by dotted keys. An upsampler that gets
            another ``type`` loses the arguments that the config had for the one before, and a line
            on standard error says which. Default: none.
        work_dir: Where results go. Default: the config's own, else ``work_dirs/<config's name>``,
            with the upsamplers that the options name, so that no other run lies there.
        launcher: Job launcher. Default: ``'none'``.

    Returns:
        The config; on a machine without a GPU, with plain batch norm instead of SyncBN, which
        needs one, and with gloo instead of nccl between processes. A data loader without worker
        processes has none that persist, whatever the config inherits.

    Raises:
        SetupError: the config does not exist, cannot be read or has no model, or asks a host class
            that knows none for an upsampler.
    """
    cfg = _read(name)
    options = dict(cfg_options or {})
    _drop_arguments(cfg, options)
    cfg.merge_from_dict(options)
    if not cfg.get('model'):
        raise SetupError(f'config {name} has no model; give a config of a whole model')
    host = host_of(cfg)
    host.check_model(cfg)
    host.add_metrics(cfg)
    cfg.launcher = launcher
    cfg.work_dir = (
        work_dir or cfg.get('work_dir') or f'work_dirs/{Path(cfg.filename).stem}{_swap(options)}'
    )
    mmengine_fixes.fit_to_machine(cfg)
    mmengine_fixes.tell_rules(cfg)
    return cfg


def pretrained_weights(cfg: Config) -> set[str]:
    """The files that a model and its parts are to be initialised from.

    timm's ``pretrained=True``, and what else only a library knows how to read, is not among them.
    """
    nodes = list(dicts(cfg.model))
    initialised = [node for node in nodes if type_name(node) in ('Pretrained', 'PretrainedInit')]
    names = [node.get('checkpoint') for node in initialised]
    names += [node.get('pretrained') for node in nodes]
    return {name for name in names if isinstance(name, str) and name}


def check_weights(names: Iterable[object]) -> None:
    """Raise where weights are known to be out of reach.

    Args:
        names: Paths or URLs in mmengine's schemes; what is no text is passed over.

    Raises:
        SetupError: a local file does not exist, or torchvision is needed and missing.
    """
    for name in names:
        if not isinstance(name, str) or not name:
            continue
        if name.startswith('torchvision://') and not importlib.util.find_spec('torchvision'):
            raise unavailable(name, 'torchvision is not installed (pip install torchvision)')
        if '://' not in name and not os.path.isfile(os.path.expanduser(name)):
            where = '; docs/data.md says where it comes from' * name.startswith('pretrained/')
            raise unavailable(name, f'there is no such file{where}')


def check_loops(cfg: Config, needed: str) -> None:
    """Raise where a config lacks parts of what it is to be used for.

    Args:
        cfg: The config.
        needed: ``'train'`` or ``'test'``.

    Raises:
        SetupError: the data, the loop, or the optimizer or the metrics are missing, or the config
            asks for another runner.
    """
    if cfg.get('runner_type', 'Runner') != 'Runner':
        raise SetupError(
            f"runner_type='{cfg.runner_type}' is not used: these tools have a runner of their own. "
            'Take it out of the config, or train with a tool of your own, in which '
            '`import fade_mm.registry` makes the upsamplers known'
        )
    for name, keys in _LOOPS.items():
        missing = [key for key in keys if cfg.get(key) is None]
        if len(missing) == len(keys) and name == needed:
            raise SetupError(f'the config cannot {needed}: it has no {", ".join(missing)}')
        if 0 < len(missing) < len(keys):
            given = [key for key in keys if key not in missing]
            raise SetupError(
                f'the config has {" and ".join(given)}, but no {" and ".join(missing)}; give all '
                f'of them, or none ({" ".join(f"{key}=None" for key in given)})'
            )
    if cfg.get('param_scheduler') and cfg.get('optim_wrapper') is None:
        raise SetupError(
            'the config has a param_scheduler, but no optim_wrapper that it could change; set '
            'param_scheduler=None'
        )


def add_hook(cfg: Config, **hook) -> None:
    """Add a custom hook to a config."""
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def monitor_upsamplers(cfg: Config) -> None:
    """Let a training watch its upsamplers, unless the config has a monitor of its own."""
    hooks = cfg.get('custom_hooks') or []
    if not any(type_name(hook) == 'UpsamplerMonitorHook' for hook in hooks):
        add_hook(cfg, type='fade_mm.UpsamplerMonitorHook')


def _read(name: str) -> Config:
    mmengine_fixes.find_forks()
    library = name.partition('::')[0] if '::' in name else None
    path = Path(name)
    if not (library or path.is_file() or shipped.find_config(name)):
        beside = [x.name for x in path.parent.glob('*.py')] if path.parent.is_dir() else []
        near = get_close_matches(path.name, beside, 1)
        if near:
            raise SetupError(f'there is no config {name}; there is {path.with_name(near[0])}')
    if library == 'fade_mm' or not (library or path.is_file()):
        name, library = str(shipped.config_file(name)), None
    if library and not importlib.util.find_spec(library):  # mmengine would run pip
        package = MODULE2PACKAGE.get(library)
        known = (
            f'is not installed; run: {command(package)}'
            if package
            else f'is no library of OpenMMLab; there are {" and ".join(_libraries())}'
        )
        raise SetupError(f'there is no config {name}: {library} {known}')
    try:
        return get_config(name) if library else Config.fromfile(name)
    except FileNotFoundError as error:
        raise SetupError(f'there is no config {name}: {error}') from error
    except SetupError as error:  # of one that it inherits
        raise SetupError(f'config {name} cannot be read: {error}') from error
    except Exception as error:  # a config is a program
        cause = error.__cause__ or error  # mmengine's words for a failed import are long
        read = [frame.f_locals.get('filename') for frame, _ in walk_tb(error.__traceback__)]
        file = next((str(x) for x in reversed(read) if str(x).endswith('.py')), name)
        inherited = '' if os.path.abspath(file) == os.path.abspath(name) else f' (in {file})'
        raise SetupError(
            f'config {name} cannot be read{inherited}: {type(cause).__name__}: '
            f'{str(cause).replace("<unknown>", file)}'
        ) from error


def _swap(options: dict) -> str:
    """What a work dir's name says of upsamplers that options bring in."""
    given = (kind for key, kind in _flat(options) if key.endswith('upsample_cfg.type'))
    return ''.join(f'_{type_name(dict(type=kind))}' for kind in dict.fromkeys(given))


def _libraries() -> list[str]:
    """How configs of the host libraries' own are written."""
    HOSTS.import_from_location()
    found = dict.fromkeys(host.library for host in HOSTS.module_dict.values())
    return [f'{library}::PATH' for library in found]


def _drop_arguments(cfg: Config, options: dict) -> None:
    """Drop the arguments of every upsampler that the options make one of another type."""
    given = dict(_flat(options))
    for key, kind in given.items():
        place, _, last = key.rpartition('.')
        node = _at(cfg._cfg_dict, place) if last == 'type' else None
        if not isinstance(node, dict) or not _is_upsampler(node.get('type')):
            continue
        old, new = type_name(node), type_name(dict(type=kind))
        if _layer(node['type']) == _layer(kind):
            continue
        inherited = {name: node.pop(name) for name in list(node) if name not in _HOSTS_OWN}
        dropped = [f'{k}={v!r}' for k, v in inherited.items() if f'{place}.{k}' not in given]
        if dropped:
            print(f"{place} is {new} now, without {old}'s {', '.join(dropped)}", file=sys.stderr)


def _layer(kind: object) -> object:
    """What an upsampler's ``type`` stands for; presets of one class are different layers."""
    name = kind.removeprefix('fade_mm.') if isinstance(kind, str) else kind
    return upsamplers.UPSAMPLERS.get(name, name)


def _is_upsampler(kind: object) -> bool:
    """Whether the ``type`` in a config is that of an upsampler."""
    if isinstance(kind, str):
        return kind.removeprefix('fade_mm.') in upsamplers.UPSAMPLERS
    return isinstance(kind, type) and issubclass(kind, upsamplers.Upsampler)


def _flat(options: dict, prefix: str = '') -> Iterator[tuple[str, object]]:
    """Options by dotted keys alone."""
    for key, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


def _at(node: object, place: str) -> object:
    """What a dotted key leads to; ``None`` where it leads nowhere."""
    for key in place.split('.'):
        if isinstance(node, list) and key.isdigit():
            node = node[int(key)] if int(key) < len(node) else None
        else:
            node = node.get(key) if isinstance(node, dict) else None
    return node
