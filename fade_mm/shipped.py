"""What comes with the package: configs, tools and ``model-index.yml``.

In a checkout they lie beside the package; an installed one has them in ``fade_mm/.mim``, where
OpenMMLab's mim looks for them.
"""

from difflib import get_close_matches
from pathlib import Path

from fade_mm.errors import SetupError

_PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """The folder that has ``configs``, ``tools`` and ``model-index.yml``."""
    installed = _PACKAGE / '.mim'
    return installed if installed.is_dir() else _PACKAGE.parent


def find_config(name: str) -> Path | None:
    """The file of one of our configs, ``None`` where none has the name, or several.

    Args:
        name: Its path below ``configs``, or the file's name alone; ``configs/`` or ``fade_mm::``
            before and ``.py`` after it may be there or not.
    """
    wanted, known = _bare(name), _configs()
    found = [x for x in known if wanted in (x, x.rpartition('/')[2])]
    return known[found[0]] if len(found) == 1 else None


def config_file(name: str) -> Path:
    """The file of one of our configs, by a name as in `find_config`.

    Raises:
        SetupError: none has the name.
    """
    found = find_config(name)
    if found is None:
        near = _near(_bare(name))
        hint = f'; the nearest of ours: {", ".join(near)}' if near else ''
        raise SetupError(f'there is no config {name}{hint}')
    return found


def _near(wanted: str) -> list[str]:
    """The names most like one that does not exist, three at most."""
    short = {x.rpartition('/')[2]: x for x in _configs() if not x.startswith('_base_/')}
    longer = [x for file, x in short.items() if x.startswith(wanted) or file.startswith(wanted)]
    if longer:
        return sorted(longer, key=len)[:3]
    return [short[x] for x in get_close_matches(wanted.rpartition('/')[2], short, 3)]


def _bare(name: str) -> str:
    return name.removeprefix('fade_mm::').removeprefix('configs/').removesuffix('.py')


def _configs() -> dict[str, Path]:
    """All of our configs by their path below ``configs``, without the suffix."""
    folder = root() / 'configs'
    files = sorted(folder.rglob('*.py'))
    return {path.relative_to(folder).with_suffix('').as_posix(): path for path in files}
