"""The operator in ATen's operators with dynamic sizes: for exporters that know nothing else.

No code here depends on a size, so one graph serves all of them, the same size included. The output
points that read around one low-resolution point form a group. Per group, the product of its ``s*s``
kernels and the ``K*K`` points under them makes all the sums, with the channels side by side in
memory. The points are gathered by index into ``K*K`` copies of ``de``; one tap after the other
needs less memory, but takes ONNX Runtime ten times as long.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import ExportedProgram

from .checks import kernel_size_of


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

    def span(size: int) -> Tensor:
        return torch.arange(size, device=de.device)

    rows, cols = _axis(h, H, s, span), _axis(w, W, s, span)
    groups = rows.low.shape[0] * cols.low.shape[0]
    low = rows.low[:, None] * W + cols.low
    group = rows.group[:, None] * cols.low.shape[0] + cols.group
    place = (group * s + rows.phase[:, None]) * s + cols.phase
    members = rows.members[:, None, :, None] * w + cols.members[:, None]
    top, left = (axis.low[:, None] + span(kernel_size) for axis in (rows, cols))
    windows = top[:, None, :, None] * (W + kernel_size - 1) + left[:, None]

    def by_group(x: Tensor, index: Tensor, count: int) -> Tensor:
        x = x.to(dtype).flatten(2).transpose(1, 2)
        return x.index_select(1, index.flatten()).reshape(n, groups, count, x.shape[2])

    kernels = by_group(logits, members, s * s)
    if logits_de is not None:
        kernels = kernels + by_group(logits_de, low, 1)
    if softmax:
        kernels = kernels.softmax(3)
    if gate is not None:
        opened = by_group(gate, low, 1).sigmoid()
        kernels = (1 - opened) * kernels  # rather than the results, which have all channels
    points = by_group(F.pad(de, [kernel_size // 2] * 4), windows, taps)
    y = (kernels @ points).reshape(n, groups * s * s, c).index_select(1, place.flatten())
    y = y.transpose(1, 2).reshape(n, c, h, w)
    if gate is not None:
        opened = opened.flatten(1).index_select(1, group.flatten()).reshape(n, 1, h, w)
        y = y + opened * en.to(dtype)
    return y.to(de.dtype)


class _Axis(NamedTuple):
    """Indices along one axis.

    Attributes:
        group: Of each output point, its group.
        phase: Of each output point, its place in the group.
        members: Of each group, its output points ``(groups, s)``; where there are fewer, repeated.
        low: Of each group, the low-resolution point that its members read around.
    """

    group: Tensor
    phase: Tensor
    members: Tensor
    low: Tensor


def _axis(size: int, low: int, s: int, span: Callable[[int], Tensor]) -> _Axis:
    surplus = size - low  # the same size makes it 0, and a group of each point; else it is no bound
    points = span(size)
    group = (points // s).maximum(points - surplus)
    phase = points - (group * s).minimum(group + surplus)
    groups = span(torch.sym_max(low, (size + s - 1) // s))
    members = (groups[:, None] * s + span(s)).minimum(groups[:, None] + surplus)
    return _Axis(group, phase, members.clamp(max=size - 1), groups.clamp(max=low - 1))
