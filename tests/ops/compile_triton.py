"""Compiles Triton kernels for a GPU that need not be there; `test_triton` runs it.

A process of its own, since the interpreter and the compiler exclude each other. Triton has no
public way to compile what a launch would: this follows `JITFunction.run` up to the driver. Each
line of the output says of one kernel how many registers a thread has and how many bytes of memory
it uses in their place.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from fade_mm.ops.backend import triton as backend
from fade_mm.ops.backend.triton import jit
from fade_mm.ops.problem import Problem

TARGET = GPUTarget('cuda', 90, 32)
NVIDIA = Path(triton.__file__).parent / 'backends/nvidia/bin'


def compile_kernel(name, programs, *arguments, **options):
    """Stands in for the backend's `_launch`."""
    tiles = backend._TILES[name, options['POINTS_LAST']]
    for index, (tile, warps) in enumerate(tiles if EVERY_TILE else tiles[:1]):
        kernel, target = getattr(jit, name), make_backend(TARGET)
        chosen = dict(num_warps=warps, num_stages=1)
        bind = create_function_from_signature(kernel.signature, kernel.params, target)
        bound, specialization, given = bind(*arguments, **options, **tile, **chosen, debug=False)
        settings, signature, constants, attributes = kernel._pack_args(
            target, chosen, bound, specialization, given
        )
        source = ASTSource(kernel, signature, constants, attributes)
        compiled = triton.compile(source, target=TARGET, options=settings.__dict__)
        print(name, 'points' if options['POINTS_LAST'] else 'channels', index, *usage(compiled))


def usage(compiled):
    """Registers a thread, and bytes of stack that it takes for more."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(compiled.asm['cubin'])
        file.flush()
        command = [NVIDIA / 'cuobjdump', '--dump-resource-usage', file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(r'REG:(\d+) STACK:(\d+)', text).groups()


def compile_all(dtype, memory_format, kernel_size, step):
    taps, size, low = kernel_size**2, (16 * step, 32 * step), (16, 32)
    shapes = [(1, 64, *low), (1, taps, *size), (1, taps, *low), (1, 1, *low), (1, 64, *size)]
    tensors = [torch.zeros(x, dtype=dtype).to(memory_format=memory_format) for x in shapes]
    problem = Problem(*tensors, step, True)
    backend.backward(problem, backend.forward(problem), [True] * 5)


if __name__ == '__main__':
    EVERY_TILE = sys.argv[1:] == ['--every-tile']
    backend._launch = compile_kernel
    if EVERY_TILE:
        for memory_format in (torch.contiguous_format, torch.channels_last):
            compile_all(torch.float32, memory_format, 5, 2)
    else:
        compile_all(torch.float32, torch.contiguous_format, 3, 1)
        backend._is_huge = lambda x: x is not None  # offsets of 64 bits
        compile_all(torch.bfloat16, torch.channels_last, 3, 1)
