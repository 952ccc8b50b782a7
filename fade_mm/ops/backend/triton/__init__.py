"""The operator on a GPU, in Triton: one kernel forward, two backward.

The forward reads everything once and writes the output. The backward recomputes the softmax. Its
first kernel works like the forward and gives all gradients but that of ``de``; the second one
gathers that from the output points that read each point of ``de``. Between them stays one number an
output point.

On a GPU the sizes of the tiles are chosen by timing those in the table below at the first call of a
kind. They decide the order of sums, so runs, and the processes of one run, may differ in last bits;
with `torch.use_deterministic_algorithms` it is always the first of the table, and the results are
the same. With ``TRITON_INTERPRET=1`` in the environment, set before this module is used, Triton
interprets the kernels instead: slow, but on tensors anywhere, which is how they are tested.
"""

import functools
import os
from types import ModuleType

import torch
from torch import Tensor

from ...problem import Gradients, Problem

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_REGISTERS = 100  # how many float32 taps and sums of them a thread can hold

# By kernel and whether memory is contiguous along the points: tiles in points (for
# `backward_de`, in lanes and rows of points as well) and channels, and the number of warps.
_TILES = {
    ('forward', True): [
        (dict(TILE_H=4, TILE_W=32, TILE_C=1, CHANNELS=64), 4),
        (dict(TILE_H=4, TILE_W=32, TILE_C=1, CHANNELS=16), 4),
        (dict(TILE_H=4, TILE_W=16, TILE_C=2, CHANNELS=64), 4),
    ],
    ('forward', False): [
        (dict(TILE_H=4, TILE_W=4, TILE_C=32, CHANNELS=256), 4),
        (dict(TILE_H=4, TILE_W=4, TILE_C=32, CHANNELS=64), 4),
        (dict(TILE_H=2, TILE_W=8, TILE_C=32, CHANNELS=128), 4),
    ],
    ('backward_kernels', True): [
        (dict(TILE_H=1, TILE_W=32, TILE_C=4), 4),
        (dict(TILE_H=2, TILE_W=16, TILE_C=4), 4),
        (dict(TILE_H=4, TILE_W=32, TILE_C=1), 4),
    ],
    ('backward_kernels', False): [
        (dict(TILE_H=4, TILE_W=4, TILE_C=32), 4),
        (dict(TILE_H=2, TILE_W=4, TILE_C=64), 4),
    ],
    ('backward_de', True): [
        (dict(ROWS=4, TILE_H=1, TILE_W=32, TILE_C=64, CHUNKS=1), 4),
        (dict(ROWS=4, TILE_H=1, TILE_W=64, TILE_C=64, CHUNKS=1), 8),
        (dict(ROWS=4, TILE_H=1, TILE_W=32, TILE_C=32, CHUNKS=1), 4),
    ],
    ('backward_de', False): [
        (dict(ROWS=4, TILE_H=2, TILE_W=8, TILE_C=32, CHUNKS=4), 4),
        (dict(ROWS=4, TILE_H=2, TILE_W=8, TILE_C=32, CHUNKS=2), 4),
        (dict(ROWS=2, TILE_H=4, TILE_W=4, TILE_C=32, CHUNKS=4), 4),
    ],
}

# One choice for the interpreter, small enough for tests to need several tiles.
_INTERPRETED_TILES = {
    'forward': dict(TILE_H=4, TILE_W=8, TILE_C=4, CHANNELS=8),
    'backward_kernels': dict(TILE_H=4, TILE_W=8, TILE_C=4),
    'backward_de': dict(ROWS=2, TILE_H=2, TILE_W=8, TILE_C=4, CHUNKS=2),
}


def why_not(*tensors: Tensor | None) -> str | None:
    """Why this backend cannot run on ``tensors``, None where it can."""
    given = [x for x in tensors if x is not None]
    for x in given:
        if x.dtype not in _DTYPES:
            return f'it has no kernel for {x.dtype}'
    if not _is_interpreted():
        device = given[0].device
        if device.type != 'cuda':
            return f'the tensors are on {device.type}, and TRITON_INTERPRET=1 is not set'
        if torch.version.cuda and torch.cuda.get_device_capability(device) < (8, 0):
            return 'Triton needs a GPU of compute capability 8.0 or higher'
    module = _import()
    return module if isinstance(module, str) else None


def forward(problem: Problem) -> Tensor:
    """As `reference.forward`."""
    out = problem.empty_output()
    tensors = (out, *problem.tensors)
    options = _options(problem, tensors)
    options |= _phases(options)
    groups = options['S'] ** 2 // options['PHASES']
    batch, channels = problem.de.shape[:2]
    _launch(
        'forward',
        lambda meta: (
            _tiles(batch, *_cells(options), meta) * groups * _ceil_div(channels, meta['CHANNELS'])
        ),
        *_with_strides(*tensors),
        **options,
    )
    return out


def backward(problem: Problem, grad: Tensor, needed: list[bool]) -> Gradients:
    """As `reference.backward`."""
    de, logits, logits_de, gate, _ = problem.tensors
    grads = problem.empty_gradients(needed)
    grad_de, grad_logits, grad_logits_de, grad_gate, grad_en = grads
    options = _options(problem, (grad, *problem.tensors, *grads))
    batch, channels, H, W = de.shape
    normaliser = None
    if problem.softmax or gate is not None:
        normaliser = de.new_empty((batch, *problem.size), dtype=problem.accumulated)

    cells = _cells(options)
    summed = [grad_logits_de, grad_gate]
    if cells != (H, W):
        summed = [
            x if x is None else x.new_empty((*x.shape[:2], *cells), dtype=problem.accumulated)
            for x in summed
        ]
    if normaliser is not None or any(needed[1:]):
        _launch(
            'backward_kernels',
            lambda meta: _tiles(batch, *cells, meta),
            *_with_strides(grad, *problem.tensors, grad_logits, *summed, grad_en),
            normaliser,
            **options,
            **_phases(options),
        )
    if cells != (H, W):
        for total, x in zip((grad_logits_de, grad_gate), summed, strict=True):
            if x is not None:
                _fold(x, total)
    if grad_de is None:
        return grads
    lanes = min(options['S'] & -options['S'], 4) if options['POINTS_LAST'] else 1
    _launch(
        'backward_de',
        lambda meta: (
            _tiles(batch, _ceil_div(H, meta['ROWS']), W * lanes, meta)
            * _ceil_div(channels, meta['TILE_C'] * meta['CHUNKS'])
        ),
        *_with_strides(grad, logits, logits_de),
        normaliser,
        *_with_strides(grad_de),
        LANES=lanes,
        **options,
    )
    return grads


def _is_interpreted() -> bool:
    return os.environ.get('TRITON_INTERPRET') == '1'


@functools.cache
def _import() -> ModuleType | str:
    """The device code, or why it cannot be had. Importing Triton takes long, so not before use."""
    try:
        import triton  # noqa: F401
    except ModuleNotFoundError:
        return 'triton is not installed: pip install triton'
    except Exception as error:
        return f'triton cannot be imported: {error}'
    from . import jit

    return jit


def _options(problem: Problem, tensors: tuple[Tensor | None, ...]) -> dict:
    """The arguments that all kernels share, from ``h`` on."""
    import triton.language as tl

    (h, w), (H, W) = problem.size, problem.low
    batch, channels = problem.de.shape[:2]
    return dict(
        h=h,
        w=w,
        H=H,
        W=W,
        size_class=(batch * h * w).bit_length() // 2,
        C=channels,
        K=problem.kernel_size,
        S=problem.step,
        SOFTMAX=problem.softmax,
        POINTS_LAST=problem.memory_format == torch.contiguous_format,
        ACC=tl.float64 if problem.accumulated == torch.float64 else tl.float32,
        INDEX=tl.int64 if any(map(_is_huge, tensors)) else tl.int32,
    )


def _is_huge(x: Tensor | None) -> bool:
    """Whether offsets within a batch element need 64 bits, with those of masked points."""
    return (
        x is not None
        and sum(
            (size + 64) * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True)
        )
        >= 2**31
    )


def _phases(options: dict) -> dict:
    taps, points = options['K'] ** 2, options['S'] ** 2
    most = max(1, _REGISTERS // taps)
    phases = max(x for x in range(1, min(points, most) + 1) if points % x == 0)
    return dict(PHASES=phases, LEVELS=(taps - 1).bit_length())


def _cells(options: dict) -> tuple[int, int]:
    """The size of the low-resolution grid whose cells hold all output points."""
    return _ceil_div(options['h'], options['S']), _ceil_div(options['w'], options['S'])


def _tiles(batch: int, rows: int, cols: int, meta: dict) -> int:
    return batch * _ceil_div(rows, meta['TILE_H']) * _ceil_div(cols, meta['TILE_W'])


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _with_strides(*tensors: Tensor | None):
    for x in tensors:
        yield x
        yield None if x is None else x.stride()


def _fold(cells: Tensor, total: Tensor) -> None:
    """Sums over cells into sums over the points that they read around."""
    H, W = total.shape[2:]
    cells[:, :, H - 1] += cells[:, :, H:].sum(2)
    cells[..., W - 1] += cells[..., W:].sum(3)
    total.copy_(cells[:, :, :H, :W])


def _launch(name: str, programs, *arguments, **options) -> None:
    """Run a kernel with ``programs(meta)`` programs, if there is anything to do."""
    if arguments[0].numel() == 0:
        return
    timed = not torch.are_deterministic_algorithms_enabled()
    kernel, tile = _kernel(name, options['POINTS_LAST'], timed)
    with torch.cuda.device_of(arguments[0]):
        kernel[lambda meta: (programs(meta),)](*arguments, **options, **tile)


@functools.cache
def _kernel(name: str, points_last: bool, timed: bool):
    """A kernel that chooses its tiles, or, where none can be timed, one and its tiles."""
    import triton

    kernel = getattr(_import(), name)
    if _is_interpreted():
        return kernel, _INTERPRETED_TILES[name]
    tiles = _TILES[name, points_last][: None if timed else 1]  # of one, nothing is timed
    configs = [triton.Config(tile, num_warps=warps, num_stages=1) for tile, warps in tiles]
    key = ['size_class', 'C', 'K', 'S', 'SOFTMAX']
    return triton.autotune(configs, key)(kernel), {}
