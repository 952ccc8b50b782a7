"""From a problem to calls of kernels: sizes, vectors, tiles and the memory between them.

What must hold: vectors are as wide as every feature's address, strides and sizes allow, for a
kernel trusts them; where nothing fits, they are single numbers, and any strides will do.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...problem import Gradients, Problem
from .tiles import LAYOUTS, Tile

Choose = Callable[[str, str, int], Tile]
"""Gives the tile for a kernel, a memory format and the bytes of a feature's element."""

_VECTOR = 16  # bytes that a thread reads or writes at once
_LARGEST = 2**31


class Call(NamedTuple):
    """A kernel's launch.

    Attributes:
        name: The kernel's.
        layout: One of `tiles.LAYOUTS`.
        tile: The entry of the table.
        programs: How many there are.
        arguments: Tensors and their strides.
        options: All other arguments, by name.
        settings: Triton's own, such as the number of warps.
    """

    name: str
    layout: str
    tile: Tile
    programs: int
    arguments: tuple
    options: dict
    settings: dict


def forward_call(problem: Problem, choose: Choose, multiprocessors: int) -> tuple[Tensor, Call]:
    """The output, which is empty until the call has run, and the call.

    Args:
        problem: The operands.
        choose: Gives the tiles.
        multiprocessors: Of the GPU; there shall be some programs for each.
    """
    out, plan = problem.empty_output(), _Plan(problem, choose)
    tile = plan.tile('forward')
    S, channels = problem.step, problem.de.shape[1]
    cells_by_sums = tile['sums'] // S**2

    def most(vector: int) -> int:
        return min(vector // S, cells_by_sums) if plan.points_last else cells_by_sums // vector

    cells, vector = plan.vectors([out, problem.en], [problem.de], most)
    parts = _power_of_2(cells_by_sums // cells) if plan.points_last else vector
    tiles, settings = plan.tiles(plan.cells, tile, cells)
    step = tile['LANES'] * parts
    splits = max(1, min(_ceil_div(channels, step), 4 * multiprocessors // max(tiles, 1)))
    per_program = step * _ceil_div(_ceil_div(channels, step), splits)
    kept = plan.keep(problem.kernel_size**2)
    options = (
        plan.options
        | plan.taps
        | dict(channels=per_program, VECTOR=vector, CELLS=cells, PARTS=parts)
        | _arguments(tile)
    )
    programs = tiles * _ceil_div(channels, per_program)
    arguments = (*_with_strides(out, *problem.tensors), kept)
    options['INDEX'] = _index(out, *problem.tensors, kept)
    return out, Call('forward', plan.layout, tile, programs, arguments, options, settings)


def backward_calls(
    problem: Problem, grad: Tensor, needed: list[bool], choose: Choose
) -> tuple[Gradients, list[Call], Callable]:
    """The gradients, the calls that fill them in, and what is to be done when they have.

    Args:
        problem: The operands.
        grad: The gradient of the output.
        needed: Which gradients are.
        choose: Gives the tiles.
    """
    de, logits, logits_de, gate, en = problem.tensors
    grads = problem.empty_gradients(needed)
    grad_de, grad_logits, grad_logits_de, grad_gate, grad_en = grads
    plan, calls = _Plan(problem, choose), []
    taps, S = problem.kernel_size**2, problem.step
    products = plan.keep(taps)
    gate_products = None if gate is None else plan.keep(1)
    index = _index(grad, *problem.tensors, *grads, products)

    if any(needed[1:]):
        tile = plan.tile('backward_products')
        cells, vector = plan.vectors([grad, en, grad_en], [de], lambda _: tile['CELLS'])
        rows = math.gcd(tile['ROWS'], S)
        tap_rows = min(tile['TAP_ROWS'], problem.kernel_size)
        tap_lanes = 1 << (_ceil_div(problem.kernel_size, tap_rows) - 1).bit_length()
        tiles, settings = plan.tiles(plan.cells, tile, cells, tap_lanes)
        options = (
            plan.options
            | _arguments(tile)
            | dict(
                INDEX=index,
                VECTOR=vector,
                CELLS=cells,
                PARTS=1 if plan.points_last else vector,
                ROWS=rows,
                TAP_ROWS=tap_rows,
                TAP_LANES=tap_lanes,
            )
        )
        arguments = (*_with_strides(grad, de, gate, en, grad_en), products, gate_products)
        programs = tiles * (S // rows)
        calls.append(
            Call('backward_products', plan.layout, tile, programs, arguments, options, settings)
        )

    # Sums over cells, of which there are more than points of `de` where rounding down left some.
    summed = grad_logits_de, grad_gate
    if plan.cells != tuple(problem.low):
        summed = [
            x if x is None else x.new_empty((*x.shape[:2], *plan.cells), dtype=problem.accumulated)
            for x in summed
        ]
    if any(needed[:4]):
        tile = plan.tile('backward_kernels')
        if plan.points_last:
            cells, vector = plan.vectors(
                [logits, grad_logits], [], lambda vector: min(vector // S, tile['CELLS'])
            )
            vector = min(vector, cells * S)
        else:  # the points of a cell are neighbours in what is kept
            cells, vector = 1, min(S**2 & -(S**2), _VECTOR // products.element_size())
        tiles, settings = plan.tiles(plan.cells, tile, cells)
        arguments = (
            products,
            gate_products,
            *_with_strides(logits, logits_de, gate, grad_logits, *summed),
        )
        options = (
            plan.options
            | plan.taps
            | _arguments(tile)
            | dict(INDEX=index, VECTOR=vector, CELLS=cells)
        )
        del options['C']
        calls.append(
            Call('backward_kernels', plan.layout, tile, tiles, arguments, options, settings)
        )

    if grad_de is not None:
        tile = plan.tile('backward_de')
        cells, vector = plan.vectors([grad], [de, grad_de], lambda _: tile['CELLS'])
        parts = _power_of_2(tile['sums'] // cells) if plan.points_last else vector
        tiles, settings = plan.tiles(tuple(problem.low), tile, cells)
        options = (
            plan.options
            | _arguments(tile)
            | dict(
                INDEX=index,
                VECTOR=vector,
                WIDER=problem.size[1] > problem.low[1] * S,
                CELLS=cells,
                PARTS=parts,
            )
        )
        arguments = (*_with_strides(grad), products, *_with_strides(grad_de))
        programs = tiles * _ceil_div(de.shape[1], tile['LANES'] * parts)
        calls.append(Call('backward_de', plan.layout, tile, programs, arguments, options, settings))

    def finish() -> None:
        for x, total in zip((grad_logits_de, grad_gate), summed, strict=True):
            if x is not total:
                _fold(total, x)

    return grads, calls, finish


class _Plan:
    """What the kernels of a problem share."""

    def __init__(self, problem: Problem, choose: Choose) -> None:
        import triton.language as tl

        self.problem, self.choose = problem, choose
        (h, w), (H, W), S = problem.size, problem.low, problem.step
        self.points_last = problem.memory_format == torch.contiguous_format
        self.layout = LAYOUTS[not self.points_last]
        self.cells = _ceil_div(h, S), _ceil_div(w, S)
        self.options = dict(
            h=h,
            w=w,
            H=H,
            W=W,
            C=problem.de.shape[1],
            K=problem.kernel_size,
            S=S,
            POINTS_LAST=self.points_last,
            ACC=tl.float64 if problem.accumulated == torch.float64 else tl.float32,
        )
        self.taps = dict(SOFTMAX=problem.softmax, LEVELS=(problem.kernel_size**2 - 1).bit_length())

    def tile(self, name: str) -> Tile:
        """The entry for a kernel."""
        return self.choose(name, self.layout, self.problem.de.element_size())

    def keep(self, taps: int) -> Tensor:
        """Room for so many numbers of every point of every cell."""
        rows, cols = self.cells
        count = self.problem.de.shape[0] * taps * rows * cols * self.problem.step**2
        return self.problem.de.new_empty(count, dtype=self.problem.accumulated)

    def vectors(self, high, low, most: Callable[[int], int]) -> tuple[int, int]:
        """Cells of a group, and the width of vectors.

        Args:
            high, low: The features of high and low resolution that are read or written.
            most: How many cells a group may have, given that width.
        """
        S, w, W = self.problem.step, self.problem.size[1], self.problem.low[1]
        if self.points_last:
            if w != W * S or S & (S - 1):
                return 1, 1
            vector = _vector(high, 3)
            return _power_of_2(min(most(vector), _vector(low, 3))), vector
        vector = _vector([*high, *low], 1)
        fit = 1 if w > W * S else min(self.cells[1], W)  # columns left over have one cell each
        return _power_of_2(min(most(vector), fit)), vector

    def tiles(self, size: tuple[int, int], tile: Tile, cells: int, lanes: int = 1):
        """How many tiles cover ``size`` cells, and Triton's settings for their programs."""
        rows, cols = size
        rows, cols = _ceil_div(rows, tile['TILE_H']), _ceil_div(cols, cells * tile['TILE_W'])
        threads = (
            tile['TILE_H'] * tile['TILE_W'] * tile.get('LANES', 1) * tile.get('threads', 1) * lanes
        )
        settings = dict(num_warps=max(1, threads // 32), num_stages=1)
        if 'registers' in tile and not torch.version.hip:
            settings['maxnreg'] = tile['registers']
        return self.problem.de.shape[0] * rows * cols, settings


def _vector(tensors: list[Tensor | None], axis: int) -> int:
    """How many neighbours along an axis lie in one aligned vector, everywhere in the tensors."""
    tensors = [x for x in tensors if x is not None]
    vector = _VECTOR // max((x.element_size() for x in tensors), default=1)
    for x in tensors:
        if x.stride(axis) != 1:
            return 1
        others = [x.stride(i) for i in range(4) if i != axis and x.shape[i] > 1]
        units = x.data_ptr() // x.element_size(), x.shape[axis], *others
        vector = min(vector, *(y & -y for y in units if y))
    return vector


def _index(*tensors: Tensor | None):
    """The type of offsets: of 64 bits if those within a batch element need them."""
    import triton.language as tl

    return tl.int64 if any(x is not None and _is_huge(x) for x in tensors) else tl.int32


def _is_huge(x: Tensor) -> bool:
    """Whether an offset within a batch element may exceed 31 bits, those of masked points too."""
    if x.dim() == 1:
        return x.numel() + 2**20 >= _LARGEST
    sizes = zip(x.shape[1:], x.stride()[1:], strict=True)
    return sum((size + 256) * stride for size, stride in sizes) >= _LARGEST


def _power_of_2(x: int) -> int:
    """The largest that is not larger than ``x``, and 1 at least."""
    return 1 << (max(x, 1).bit_length() - 1)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _arguments(tile: Tile) -> Tile:
    """What kernels take of it as it is."""
    return {key: value for key, value in tile.items() if key.isupper()}


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
