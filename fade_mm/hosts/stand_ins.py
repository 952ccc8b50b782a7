"""All classes of ours that stand in for a host library's, by name.

Any of the libraries may be missing. Its classes are there all the same: building one says what to
install.
"""

from importlib import import_module

from fade_mm.openmmlab import MMCV, command
from fade_mm.registry import HOSTS, MODELS

from .base import Host


def _unavailable(name: str, host: type[Host], error: Exception) -> type:
    """A class in the place of ``name`` that says why it cannot be built."""
    libraries = sorted([host.library, *host.needs.get(name, ())])

    def __init__(self, *args, **kwargs) -> None:
        raise ImportError(
            f'fade_mm.{name} needs {" and ".join(libraries)}, which cannot be imported ({error}); '
            f'run: {_command(libraries, error)}'
        ) from error

    return type(name, (), {'__init__': __init__})


def _command(libraries: list[str], error: Exception) -> str:
    if getattr(error, 'name', None) == 'mmcv._ext':  # mmcv-lite, or mmcv without its operators
        return f'pip uninstall mmcv mmcv-lite; {MMCV}'
    hosts = HOSTS.module_dict.values()
    packages = [host.packages for x in libraries for host in hosts if host.library == x]
    return command(*dict.fromkeys(packages))


__all__ = []
for _host in HOSTS.module_dict.values():
    for _name, _module in _host.stand_ins.items():
        try:
            _class = getattr(import_module(f'{_host.__module__}.{_module}'), _name)
        except (ImportError, AssertionError) as _error:  # some assert the version of mmcv
            _class = _unavailable(_name, _host, _error)
            MODELS.register_module(_name, module=_class)
        globals()[_name] = _class
        __all__.append(_name)
