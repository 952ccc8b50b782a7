"""``fade-mm COMMAND ...``: the scripts of ``tools/`` under one name."""

import ast
import os
import sys
import types
from difflib import get_close_matches

from fade_mm import __version__, shipped
from fade_mm.openmmlab import LibraryError

COMMANDS = {  # each a file below tools/
    'train': 'train.py',
    'test': 'test.py',
    'demo': 'demo_training.py',
    'image-demo': 'image_demo.py',
    'flops': 'get_flops.py',
    'tables': 'paper_tables.py',
    'export': 'export_onnx.py',
    'convert': 'model_converters/fade_official.py',
    'convert-mobilenet-v2': 'model_converters/mobilenet_v2.py',
    'convert-depth': 'dataset_converters/depth_from_8bit.py',
    'make-shapes': 'dataset_converters/make_shapes.py',
    'compare-depth': 'compare_depth.py',
    'compare-masks': 'compare_masks.py',
    'compare-mattes': 'compare_mattes.py',
    'benchmark': 'benchmark_ops.py',
    'benchmark-onnx': 'benchmark_onnx.py',
    'benchmark-train': 'benchmark_train.py',
    'benchmark-boundary-ap': 'benchmark_boundary_ap.py',
    'results': 'results.py',
    'env': 'env.py',
}

_ALONE = {  # what commands need that do without OpenMMLab's libraries, as pip names it
    'env': (),
    'benchmark': ('rich',),
    'convert-depth': ('opencv-python', 'rich'),
    'make-shapes': ('opencv-python', 'pycocotools', 'rich'),
}
_PIP_NAMES = {'cv2': 'opencv-python', 'yaml': 'pyyaml'}


def main() -> None:
    """Run the command that ``sys.argv`` names, with the rest as its arguments."""
    command, *arguments = sys.argv[1:] or ['--help']
    if command in ('-h', '--help'):
        print(overview())
    elif command == '--version':
        print(f'fade_mm {__version__}')
    elif command in COMMANDS:
        run(command, arguments)
    else:
        near = get_close_matches(command, COMMANDS, 1)
        hint = f'the nearest is {near[0]}' if near else f'there are {", ".join(COMMANDS)}'
        sys.exit(f"error: fade-mm has no command '{command}'; {hint}")


def overview() -> str:
    """All commands, a line each."""
    lines = [f'  {name:<22} {purpose(script)}' for name, script in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: fade-mm COMMAND ...',
            '',
            *lines,
            '',
            'fade-mm COMMAND --help says what a command takes.',
            f"Without OpenMMLab's libraries, there are {', '.join(_ALONE)}.",
        ]
    )


def purpose(script: str) -> str:
    """The first line of what a script says of itself."""
    return _docstring(script).splitlines()[0]


def run(command: str, arguments: list[str]) -> None:
    """Run a command's script as if it were called by itself, under the command's name."""
    script = shipped.root() / 'tools' / COMMANDS[command]
    module = types.ModuleType('__main__')
    module.__file__ = str(script)  # which processes that it starts import
    sys.modules['__main__'] = module
    sys.argv = [f'fade-mm {command}', *arguments]
    sys.path.insert(0, str(script.parent))  # as Python does for a script
    try:
        exec(compile(script.read_text(encoding='utf-8'), str(script), 'exec'), vars(module))
    except ImportError as error:
        package = (error.name or '').partition('.')[0]
        is_missing = isinstance(error, ModuleNotFoundError) and package != 'fade_mm'
        told = isinstance(error, LibraryError)
        if not (is_missing or told) or os.environ.get('FADE_MM_DEBUG', '0') != '0':
            raise
        if {'-h', '--help'}.intersection(arguments):
            print(_docstring(COMMANDS[command]), end='\n\n')
        what = str(error) if told else _missing(command, package)
        sys.exit(f'error: fade-mm {command}: {what}')


def _docstring(script: str) -> str:
    text = (shipped.root() / 'tools' / script).read_text(encoding='utf-8')
    return ast.get_docstring(ast.parse(text))


def _missing(command: str, package: str) -> str:
    """What a command needs, and what to type."""
    names = _ALONE.get(command, ())
    if not names:
        try:
            import fade_mm.registry  # noqa: F401
        except LibraryError as told:
            return str(told)
        names = (_PIP_NAMES.get(package, package),)
    return f'{package} is not installed; run: pip install {" ".join(names)}'
