"""Compiles every Triton kernel for a GPU that need not be there; `test_triton_kernel` runs it.

A process of its own, since the interpreter and the compiler exclude each other. Triton has no
public way to compile what a launch would: this follows `JITFunction.run` up to the driver.
"""

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from fade_mm.ops import triton_jit, triton_kernel

TARGET = GPUTarget('cuda', 90, 32)


def compile_kernel(name, programs, *arguments, **options):
    """Stands in for `triton_kernel._launch`."""
    kernel, backend = getattr(triton_jit, name), make_backend(TARGET)
    tiles, warps = triton_kernel._TILES[name, options['POINTS_LAST']][0]
    chosen = dict(num_warps=warps, num_stages=1)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, given = bind(*arguments, **options, **tiles, **chosen, debug=False)
    settings, signature, constants, attributes = kernel._pack_args(
        backend, chosen, bound, specialization, given
    )
    source = ASTSource(kernel, signature, constants, attributes)
    triton.compile(source, target=TARGET, options=settings.__dict__)
    print('compiled', name, flush=True)


def compile_all(dtype, memory_format):
    shapes = [(1, 8, 5, 6), (1, 9, 5, 6), (1, 9, 5, 6), (1, 1, 5, 6), (1, 8, 5, 6)]
    tensors = [torch.zeros(x, dtype=dtype).to(memory_format=memory_format) for x in shapes]
    out = triton_kernel.forward(*tensors, 1, True)
    triton_kernel.backward(out, *tensors, 1, True)


if __name__ == '__main__':
    triton_kernel._launch = compile_kernel
    compile_all(torch.float32, torch.contiguous_format)
    triton_kernel._is_huge = lambda x: x is not None  # offsets of 64 bits
    compile_all(torch.bfloat16, torch.channels_last)
