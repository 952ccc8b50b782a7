"""What the compiler makes of the kernels, for GPUs that need not be there.

Triton has no public way to compile what a launch would: `compiled` follows `JITFunction.run` up to
the driver. The interpreter and the compiler exclude each other, so ``TRITON_INTERPRET`` must not be
set when Triton is imported.
"""

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from ...problem import Problem
from . import launch, tiles

KERNELS = ('forward', 'backward_products', 'backward_kernels', 'backward_de')
FORMATS = dict(zip(tiles.LAYOUTS, (torch.contiguous_format, torch.channels_last), strict=True))
_SHARED = {80: 164, 86: 100, 89: 100, 90: 228, 100: 228, 103: 228, 120: 100}  # KiB, by capability
_MOST_WARPS = {86: 48, 89: 48, 120: 48}
_REGISTERS = 65536


def rows(
    archs: list[str],
    *,
    kernels: tuple[str, ...] = KERNELS,
    dtypes: tuple[str, ...] = ('float32', 'bfloat16'),
    layouts: tuple[str, ...] = tiles.LAYOUTS,
    first: bool = False,
    processes: int | None = None,
) -> Iterator[dict]:
    """Compile kernels as they are in use: K 5, scale 2, 256 channels, all parts of FADE.

    Args:
        archs: Architectures, as ``'sm_90'``.
        kernels: Their names. Default: all.
        dtypes: Of the features. Default: ``float32`` and ``bfloat16``.
        layouts: Some of `tiles.LAYOUTS`. Default: all.
        first: Only the tile that is in use, instead of all of the table. Default: False.
        processes: How many compile at a time; 0 is this one. Default: one a processor.

    Yields:
        For each kernel, layout, dtype, tile and architecture: ``registers`` of a thread,
        ``spills``, bytes of memory that it uses in their place, ``shared`` memory of a program in
        bytes, ``warps`` that a multiprocessor has at a time, ``load_bytes`` and ``store_bytes``,
        the width in which threads move most of the bytes, within loops if
        there are any.
    """
    cases = []
    for arch in archs:
        capability = divmod(tiles.number_of(arch), 10)
        for kernel in kernels:
            for layout in layouts:
                for dtype in dtypes:
                    size = getattr(torch, dtype).itemsize
                    found = tiles.candidates(kernel, layout, size, capability)
                    for tile in found[:1] if first else found:
                        cases.append((kernel, layout, dtype, tile, arch))
    if processes == 0:
        yield from map(_row, cases)
        return
    with ProcessPoolExecutor(processes or os.cpu_count(), get_context('spawn')) as pool:
        yield from pool.map(_row, cases)


def call_of(kernel: str, layout: str, dtype: torch.dtype, tile: tiles.Tile, **sizes) -> launch.Call:
    """A call of a kernel as it is in use, on a small feature.

    Args:
        kernel: Its name.
        layout: One of `tiles.LAYOUTS`.
        dtype: Of all tensors.
        tile: That of the kernel.
        sizes: ``kernel_size``, ``step`` and ``channels``, where they are others.
    """
    k, step = sizes.get('kernel_size', 5), sizes.get('step', 2)
    channels, (H, W) = sizes.get('channels', 256), (20, 40)  # W is no multiple of 16
    h, w = H * step, W * step
    shapes = [(1, channels, H, W), (1, k * k, h, w), (1, k * k, H, W), (1, 1, H, W)]
    tensors = [
        torch.zeros(shape, dtype=dtype).to(memory_format=FORMATS[layout])
        for shape in [*shapes, (1, channels, h, w)]
    ]
    problem = Problem(*tensors, step, True)

    def choose(name: str, layout: str, itemsize: int) -> tiles.Tile:
        return tile if name == kernel else tiles.CANDIDATES[name, layout, min(itemsize, 4)][0]

    out, call = launch.forward_call(problem, choose, 132)
    _, calls, _ = launch.backward_calls(problem, torch.zeros_like(out), [True] * 5, choose)
    return next(x for x in (call, *calls) if x.name == kernel)


def compiled(call: launch.Call, arch: str):
    """What Triton compiles for a call."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend
    from triton.runtime.jit import create_function_from_signature

    from . import device_kernels

    kernel = device_kernels()[call.name]
    target = GPUTarget('cuda', tiles.number_of(arch), 32)
    backend = make_backend(target)
    chosen = call.settings
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, given = bind(*call.arguments, **call.options, **chosen, debug=False)
    settings, signature, constants, attributes = kernel._pack_args(
        backend, chosen, bound, specialization, given
    )
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=settings.__dict__)


def _row(case: tuple) -> dict:
    kernel, layout, dtype, tile, arch = case
    call = call_of(kernel, layout, getattr(torch, dtype), tile)
    usage, code = _disassembled(compiled(call, arch).asm['cubin'])
    registers, spills, shared = map(
        int, re.search(r'REG:(\d+) STACK:(\d+) SHARED:(\d+)', usage).groups()
    )
    loops = _in_loops(code)
    return dict(
        kernel=kernel,
        layout=layout,
        dtype=dtype,
        tile=tile,
        arch=arch,
        registers=registers,
        spills=spills,
        shared=shared,
        warps=resident_warps(tiles.number_of(arch), call.settings['num_warps'], registers, shared),
        load_bytes=_width('LDG', loops) or _width('LDG', code),
        store_bytes=_width('STG', loops) or _width('STG', code),
    )


def resident_warps(capability: int, warps: int, registers: int, shared: int) -> int:
    """How many warps a multiprocessor has at a time: what registers and shared memory allow."""
    most = _MOST_WARPS.get(capability, 64)
    of_warp = -(-registers * 32 // 256) * 256
    programs = min(most // warps, _REGISTERS // of_warp // warps, 32)
    memory = _SHARED.get(capability, 100) * 1024
    return min(programs, memory // (shared + 1024)) * warps


def _disassembled(cubin: bytes) -> tuple[str, list[str]]:
    """Resource usage, and the instructions and labels in their order."""
    import triton

    folder = Path(triton.__file__).parent / 'backends/nvidia/bin'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(cubin)
        file.flush()

        def ask(*command: str) -> str:
            command = [str(folder / command[0]), *command[1:], file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        usage = ask('cuobjdump', '--dump-resource-usage')
        return usage, ask('nvdisasm', '-c').splitlines()


def _in_loops(code: list[str]) -> list[str]:
    """The instructions between the target of a branch backwards and the branch."""
    labels = {x.strip().rstrip(':'): at for at, x in enumerate(code) if x.strip().endswith(':')}
    inside = set()
    for at, line in enumerate(code):
        found = re.search(r'\bBRA.*`\((\S+?)\)', line)
        if found and labels.get(found.group(1), at) < at:
            inside.update(range(labels[found.group(1)], at))
    return [code[at] for at in sorted(inside)]


def _width(instruction: str, code: list[str]) -> int:
    """Bytes of a thread's access in which most of the bytes are moved; 0 if there is none."""
    moved = Counter()
    for line in code:
        found = re.search(rf'\b{instruction}\.(\S+)', line)
        if found:
            sizes = re.findall(r'\b[US]?(8|16|32|64|128|256)\b', found.group(1).replace('.', ' '))
            size = int(sizes[-1]) // 8 if sizes else 4
            moved[size] += size
    return moved.most_common(1)[0][0] if moved else 0
