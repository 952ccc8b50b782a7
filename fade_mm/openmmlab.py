"""What to type where a library of OpenMMLab's is missing, and which Python they run on."""

import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

PYTHONS = ((3, 11), (3, 12))
MMCV = (
    "pip install 'setuptools<81' wheel ninja psutil && "
    "MMCV_WITH_OPS=1 pip install --no-build-isolation 'mmcv>=2.0.0rc4,<2.2.0'"
)
"""mmcv is compiled against the torch that is installed, so it comes after torch and by itself."""


class LibraryError(ImportError):
    """A library is not there, or does not run on this Python; the message says what to do."""


def command(*packages: str) -> str:
    """What installs packages, and mmcv, if it is not there.

    Args:
        packages: As pip names them, one or several in a string.
    """
    line = f'pip install {shlex.join(" ".join(packages).split())}'
    return line if find_spec('mmcv') else f'{line} && {MMCV}'


def all_libraries() -> list[str]:
    """What the extra ``all`` stands for, as pip names it: no index need have fade_mm."""
    try:
        lines = [line.partition(';') for line in requires('fade_mm') or ()]
    except PackageNotFoundError:  # a checkout that is not installed
        lines = []
    return [name.strip() for name, _, when in lines if 'extra == "all"' in when] or ['.[all]']


def check_python() -> None:
    """Raise unless OpenMMLab's libraries run on this Python.

    Raises:
        LibraryError: they do not.
    """
    if sys.version_info[:2] not in PYTHONS:
        have = '.'.join(map(str, sys.version_info[:2]))
        raise LibraryError(
            f"OpenMMLab's side of fade_mm needs Python 3.11 or 3.12, this is {have}; the layers "
            '(fade_mm.upsamplers) work here, for the rest make an environment with python3.12'
        )
