"""The operator in ATen's operators with dynamic sizes: for exporters that know nothing else.

No code here depends on a size, so one graph serves all of them, the same size included. Blocks of
``2 x 2`` low-resolution points share a window of ``(K + 1) x (K + 1)``. One product per block makes
all the sums: of the kernels of the output points that read around its points, spread over the
window, and the window's points, with the channels side by side in memory. These are gathered by
index, into 9 copies of ``de`` where K is 5; windows of single points would make 25 of it, and take
ONNX Runtime longer. One tap after the other needs less memory, and ten times as long.

A kernel is zero where the window goes beyond it. So where ``de`` is not finite, output points that
read around the same block's other points may be NaN, too.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import ExportedProgram

from .checks import kernel_size_of

SIDE = 2  # low-resolution points of a block, along each axis


def decompose(program: ExportedProgram) -> ExportedProgram:
    """An exported program without operators of ours.

    Args:
        program: From `torch.export.export`, of a model with any of our upsamplers.

    Returns:
        The program with ``fade_mm::gated_reassemble`` as ATen operators; all others stay.
    """
    return program.run_decompositions({torch.ops.fade_mm.gated_reassemble.default: forward})


def forward(
    de: Tensor,
    logits: Tensor,
    logits_de: Tensor | None,
    gate: Tensor | None,
    en: Tensor | None,
    scale_factor: int,
    softmax: bool,
) -> Tensor:
    """The operator, for sizes that are numbers or symbols; see `Problem` for the arguments."""
    n, c, H, W = de.shape
    taps, h, w = logits.shape[1:]
    s = scale_factor
    kernel_size = kernel_size_of('logits', logits)
    dtype = torch.promote_types(de.dtype, torch.float32)
    inside, reach = SIDE * SIDE, kernel_size + SIDE - 1  # points of a block, side of its window

    def span(size: int) -> Tensor:
        return torch.arange(size, device=de.device)

    rows, cols = (_axis(*sizes, s, kernel_size, span) for sizes in ((h, H), (w, W)))
    blocks = rows.members.shape[1] * cols.members.shape[1]
    point = rows.block[:, None] * cols.members.shape[1] + cols.block
    point = (point * SIDE + rows.point[:, None]) * SIDE + cols.point
    place = (point * s + rows.phase[:, None]) * s + cols.phase

    def take(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """Values by point of a block, block, and what there is of each; channels come last."""
        index = down[:, None, :, None, :, None] * x.shape[3] + right[:, None, :, None, :]
        points, each = down.shape[0] * right.shape[0], down.shape[2] * right.shape[2]
        x = x.to(dtype).flatten(2).transpose(1, 2).index_select(1, index.flatten())
        return x.reshape(n, points, blocks, each, x.shape[2])

    kernels = take(logits, rows.members, cols.members)
    if logits_de is not None:
        kernels = kernels + take(logits_de, rows.low, cols.low)
    if softmax:
        kernels = kernels.softmax(4)
    if gate is not None:
        opened = take(gate, rows.low, cols.low).sigmoid()
        kernels = (1 - opened) * kernels  # rather than the results, which have all channels

    # Of each point of a block and each tap of its kernel, the place in the block's window.
    taken = span(SIDE)[:, None, None] + span(kernel_size)[:, None] == span(reach)
    spread = taken[:, None, :, None, :, None] & taken[:, None, :, None, :]
    kernels = kernels.reshape(n, inside, blocks * s * s, taps)
    kernels = kernels @ spread.to(dtype).reshape(inside, taps, reach * reach)
    kernels = kernels.reshape(n, inside, blocks, s * s, reach * reach).transpose(1, 2)
    kernels = kernels.reshape(n, blocks, inside * s * s, reach * reach)

    before = kernel_size // 2
    padded = F.pad(de, [before, before + SIDE - 1] * 2)
    windows = take(padded, rows.window, cols.window).reshape(n, blocks, reach * reach, c)
    y = (kernels @ windows).reshape(n, blocks * inside * s * s, c)
    y = y.index_select(1, place.flatten()).transpose(1, 2).reshape(n, c, h, w)
    if gate is not None:
        opened = opened.transpose(1, 2).reshape(n, blocks * inside)
        opened = opened.index_select(1, point.flatten()).reshape(n, 1, h, w)
        y = y + opened * en.to(dtype)
    return y.to(de.dtype)


class _Axis(NamedTuple):
    """Indices along one axis.

    Attributes:
        block: Of each output point, the block in which it reads around a point.
        point: Of each output point, that point's place in the block.
        phase: Of each output point, its place among those that read around the same point.
        members: Of each point of a block, the output points that read around it,
            ``(SIDE, blocks, s)``; where there are fewer, repeated.
        low: Of each point of a block, the low-resolution point ``(SIDE, blocks, 1)``.
        window: Of each block, the points of the padded axis in its window, ``(1, blocks, *)``.
    """

    block: Tensor
    point: Tensor
    phase: Tensor
    members: Tensor
    low: Tensor
    window: Tensor


def _axis(size: int, low: int, s: int, kernel_size: int, span: Callable[[int], Tensor]) -> _Axis:
    surplus = size - low  # the same size makes it 0, and a group of each point; else it is no bound
    output = span(size)
    # Output points that read around one point. Those left over, if any, are one more group.
    group = (output // s).maximum(output - surplus)
    phase = output - (group * s).minimum(group + surplus)
    # The group left over, which reads around the last point too, has a block of its own. That is
    # there in any case: tracers take long over cases, and take a single block for a fixed number.
    whole = (low + SIDE - 1) // SIDE
    block = (group // SIDE).maximum(group - low + whole)
    point = group - (block * SIDE).clamp(max=low)
    first = (span(whole + 1) * SIDE).clamp(max=low)
    groups = (first + span(SIDE)[:, None])[:, :, None]
    members = (groups * s + span(s)).minimum(groups + surplus).clamp(max=size - 1)
    start = first.clamp(max=low - 1)[:, None]
    window = (start + span(kernel_size + SIDE - 1))[None]
    points = (start + span(SIDE)[:, None, None]).clamp(max=low - 1)
    return _Axis(block, point, phase, members, points, window)
