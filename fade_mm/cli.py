"""``fade-mm COMMAND ...``: the scripts of ``tools/`` under one name."""

import ast
import os
import sys
import types
from difflib import get_close_matches

from fade_mm import __version__, shipped

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
    'compare-mattes': 'compare_mattes.py',
    'benchmark': 'benchmark_ops.py',
    'benchmark-onnx': 'benchmark_onnx.py',
    'benchmark-train': 'benchmark_train.py',
    'benchmark-boundary-ap': 'benchmark_boundary_ap.py',
    'results': 'results.py',
    'env': 'env.py',
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
        near = get_close_matches(command, COMMANDS, 1, 0)
        sys.exit(f"error: fade-mm has no command '{command}'; the nearest is {near[0]}")


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
        ]
    )


def purpose(script: str) -> str:
    """The first line of what a script says of itself."""
    text = (shipped.root() / 'tools' / script).read_text(encoding='utf-8')
    return ast.get_docstring(ast.parse(text)).splitlines()[0]


def run(command: str, arguments: list[str]) -> None:
    """Run a command's script as if it were called by itself, under the command's name."""
    script = shipped.root() / 'tools' / COMMANDS[command]
    module = types.ModuleType('__main__')
    module.__file__ = str(script)  # which processes that it starts import
    sys.modules['__main__'] = module
    sys.argv = [f'fade-mm {command}', *arguments]
    try:
        exec(compile(script.read_text(encoding='utf-8'), str(script), 'exec'), vars(module))
    except ModuleNotFoundError as error:
        package = (error.name or '').partition('.')[0]
        if package == 'fade_mm' or os.environ.get('FADE_MM_DEBUG', '0') != '0':
            raise
        if package == 'mmengine':
            try:
                import fade_mm.registry  # noqa: F401
            except ImportError as told:  # with what to type
                sys.exit(f'error: fade-mm {command}: {told}')
        how = f'pip install {_PIP_NAMES.get(package, package)}'
        sys.exit(f'error: fade-mm {command} needs {package}, which is not installed: {how}')
