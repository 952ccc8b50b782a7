"""Run Python where there is torch, with what it requires, and no other package.

python tests/torch_alone.py -c CODE
python tests/torch_alone.py -m pytest tests/upsamplers
"""

import os
import re
import runpy
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

TOOLS = ('pytest',)


def required(*names: str) -> set[str]:
    """Distributions and all that they require, extras left out."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.sub(r'[-_.]+', '-', waiting.pop()).lower()
        if name not in found:
            found.add(name)
            try:
                asked = requires(name) or []
            except PackageNotFoundError:  # for another platform
                continue
            asked = [line for line in asked if 'extra ==' not in line]
            waiting += [re.match(r'[\w.-]+', line).group() for line in asked]
    return found


def refused() -> set[str]:
    """The packages of all other distributions."""
    allowed = required('torch', *TOOLS)
    return {
        package
        for package, distributions in packages_distributions().items()
        if package not in ('fade_mm', 'tests')
        and not any(re.sub(r'[-_.]+', '-', x).lower() in allowed for x in distributions)
    }


class Without:
    """A finder of modules that does not find some packages."""

    def __init__(self, finder, packages: set[str]) -> None:
        self.finder = finder
        self.packages = packages

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] not in self.packages:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


if __name__ == '__main__':
    os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'  # of packages that are not there
    packages = refused()
    sys.meta_path[:] = [Without(finder, packages) for finder in sys.meta_path]
    sys.path.insert(0, '.')
    option, what, *sys.argv[1:] = sys.argv[1:]
    if option == '-c':
        exec(compile(what, '<string>', 'exec'), {'__name__': '__main__'})
    else:
        runpy.run_module(what, run_name='__main__', alter_sys=True)
