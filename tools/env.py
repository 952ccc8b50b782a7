"""What an issue should say: versions, the machine, and what computes the operator, and why.

It needs torch alone, and no file of yours.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import fade_mm
from fade_mm.ops.backend import backends, cpu, preferred_backend

PACKAGES = re.compile(
    r'(fade[-_]mm|torch.*|triton.*|numpy|mm(engine|cv.*|det|segmentation)|onedl-.*|onnx.*'
    r'|opencv-.*|setuptools|pip)',
    re.I,
)
COMPILERS = (os.environ.get('CXX', 'c++'), 'nvcc')
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='for example:\n  %(prog)s > env.txt',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser.parse_args()


def machine() -> Iterator[tuple[str, str]]:
    """Where this runs."""
    yield (
        'fade_mm',
        f'{fade_mm.__version__}{commit()}, {without_name(Path(fade_mm.__file__).parent)}',
    )
    yield 'Python', f'{platform.python_version()}, {without_name(sys.executable)}'
    yield 'system', f'{platform.platform()}, {" ".join(platform.libc_ver())}'.rstrip(', ')
    yield (
        'CPU',
        f'{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch',
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(index)
            name = torch.cuda.get_device_name(index)
            yield f'GPU {index}', f'{name}, capability {major}.{minor}, torch for {built_for()}'
    else:
        yield 'GPU', f'none of CUDA or ROCm that torch sees, which is built for {built_for()}'
    for name in COMPILERS:
        yield name, version_of(name)


def without_name(path: str | Path) -> str:
    """A path that does not say whose it is."""
    path, home = Path(path), Path.home()
    is_below = home.name and path.is_relative_to(home)
    return f'~/{path.relative_to(home)}' if is_below else str(path)


def commit() -> str:
    """The commit of a checkout, in brackets."""
    root = Path(fade_mm.__file__).resolve().parents[1]
    if not (root / '.git').exists():
        return ''
    said = output('git', '-C', str(root), 'describe', '--always', '--exclude=*', '--dirty=+dirty')
    return f' ({said[0]})' if said else ''


def processor() -> str:
    """The processor's name."""
    path = Path('/proc/cpuinfo')
    named = path.is_file() and re.search(r'model name\s*: (.+)', path.read_text())
    return named[1] if named else platform.processor() or platform.machine()


def built_for() -> str:
    """What torch was built to compute on."""
    version = torch.version
    if version.cuda:
        return f'CUDA {version.cuda}'
    return f'ROCm {version.hip}' if version.hip else 'CPUs'


def version_of(compiler: str) -> str:
    """What a compiler says of its version."""
    if not shutil.which(compiler):
        return 'none'
    lines = output(compiler, '--version')
    told = [line for line in lines if re.search(r'\d+\.\d+', line)]
    return told[0] if told else 'there, but it does not say its version'


def output(*command: str) -> list[str]:
    """The lines that a command prints; none where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def packages() -> dict[str, str]:
    """The versions of what is installed and may matter."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata['Name']
        if name and PACKAGES.fullmatch(name):
            found.setdefault(name, distribution.version)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def has_mmcv_operators() -> str:
    """Whether mmcv was compiled, which detectors need."""
    spec = importlib.util.find_spec('mmcv')
    if spec is None:
        return 'mmcv is not installed'
    compiled = list(Path(spec.origin).parent.glob('_ext*'))
    return 'yes' if compiled else 'no: reinstall mmcv with MMCV_WITH_OPS=1 and a compiler'


def devices() -> list[str]:
    """What torch computes on here."""
    found = ['cpu']
    if torch.cuda.is_available():
        found.append('cuda')
    if torch.backends.mps.is_available():
        found.append('mps')
    return found


def choices() -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Device, dtype, the backend that computes there, and of the others why not."""
    for device in devices():
        for dtype in DTYPES:
            try:
                tensor = torch.empty(1, 1, 1, 1, dtype=dtype, device=device)
            except (RuntimeError, TypeError):  # no float64 on Apple's GPU
                continue
            reasons = backends(tensor)
            able = [name for name, reason in reasons.items() if reason is None]
            chosen = preferred_backend() or able[0]
            yield device, str(dtype).removeprefix('torch.'), chosen, reasons


def print_backends() -> None:
    """Which backend computes what, and below it what keeps the others from it."""
    try:
        asked = preferred_backend()
    except ValueError as error:  # the environment asks for one that does not exist
        print(f'the operator: {error}')
        return
    print(f'the operator ({f"FADE_MM_BACKEND={asked}" if asked else "the first that can"})')
    kept = {}
    for device, dtype, chosen, reasons in choices():
        if reasons[chosen]:
            chosen = f'none: {chosen} cannot'
        print(f'  {device:<6} {dtype:<10} {chosen}')
        for name, reason in reasons.items():
            if reason:
                kept.setdefault((name, reason), []).append(f'{device} {dtype}')
    for (name, reason), where in kept.items():
        print(f'  not {name} for {", ".join(where)}: {reason}')
    sets = cpu.instruction_sets()
    if sets:
        print(f'  the CPU kernel has code for {", ".join(sets)} of this machine')


def main() -> None:
    parse_args()
    for name, value in machine():
        print(f'{name:<10} {value}')
    print('packages')
    for name, version in packages().items():
        print(f'  {name:<24} {version}')
    print(f"  mmcv's operators         {has_mmcv_operators()}")
    variables = {name: x for name, x in os.environ.items() if name.startswith(('FADE_MM_', 'OMP_'))}
    print(f'variables  {" ".join(f"{name}={x}" for name, x in variables.items()) or "none"}')
    print_backends()


if __name__ == '__main__':
    main()
