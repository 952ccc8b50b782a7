"""The operator in plain PyTorch: the definition, on any device and in any floating-point dtype.

Instead of unfolding ``de`` into ``K * K`` copies, the output is cut into its sub-pixel phases:
within a phase, the next output point reads around the next low-resolution point, so each of the
``K * K`` taps is one multiply-add of a shifted view. Nothing larger than the output is made.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..problem import Gradients, Problem

Index = tuple[slice, ...]


def forward(problem: Problem) -> Tensor:
    """Softmax (unless ``softmax`` is off), reassembly and gate; see `ops.gated_reassemble`."""
    blocks, dtype = list(_blocks(problem)), problem.accumulated
    kernels = _kernels(problem, blocks)
    padded = F.pad(problem.de.to(dtype), [problem.kernel_size // 2] * 4)
    out = problem.empty_output(dtype)
    for block in blocks:
        taps = kernels[block.points].contiguous().split(1, dim=1)
        y = padded[block.window(0, 0)] * taps[0]
        for tap in range(1, len(taps)):
            y.addcmul_(padded[block.window(*divmod(tap, problem.kernel_size))], taps[tap])
        out[block.points] = y
    if problem.gate is not None:
        opened = _nearest_up(problem.gate.to(dtype).sigmoid(), problem.size, blocks)
        # Not `lerp_`, whose difference of the two is NaN where only one of them is infinite.
        out.mul_(1 - opened).addcmul_(problem.en.to(dtype), opened)
    return out.to(problem.de.dtype)


def backward(problem: Problem, grad: Tensor, needed: list[bool]) -> Gradients:
    """Gradients of the tensors that are needed.

    Everything is recomputed from the arguments of `forward`. The reassembled feature is not
    needed: its product with ``grad``, summed over the channels, is that of the kernels with their
    own gradient, summed over the taps.
    """
    de, _, logits_de, gate, en = problem.tensors
    needs_de, needs_logits, needs_logits_de, needs_gate, needs_en = needed
    needs_kernels = needs_logits or needs_logits_de or needs_gate
    blocks, dtype = list(_blocks(problem)), problem.accumulated
    grad = grad.to(dtype)
    kernels = _kernels(problem, blocks)
    radius = problem.kernel_size // 2
    padded = F.pad(de.to(dtype).contiguous(), [radius] * 4)
    opened = None if gate is None else gate.to(dtype).sigmoid()
    opened_up = None if gate is None else _nearest_up(opened, problem.size, blocks)
    weights = kernels if gate is None else kernels * (1 - opened_up)

    grad_kernels = torch.empty_like(kernels) if needs_kernels else None
    grad_padded = torch.zeros_like(padded) if needs_de else None
    for block in blocks:
        grad_y = grad[block.points].contiguous()
        taps = weights[block.points].contiguous().split(1, dim=1)
        grad_taps = []
        for tap in range(len(taps)):
            window = block.window(*divmod(tap, problem.kernel_size))
            if needs_kernels:
                grad_taps.append((padded[window] * grad_y).sum(1))
            if needs_de:
                grad_padded[window].addcmul_(grad_y, taps[tap])
        if needs_kernels:
            grad_kernels[block.points] = torch.stack(grad_taps, dim=1)

    grads = problem.empty_gradients(needed)
    grad_de, grad_logits, grad_logits_de, grad_gate, grad_en = grads
    if needs_de:
        H, W = problem.low
        grad_de.copy_(grad_padded[:, :, radius : radius + H, radius : radius + W])
    if needs_gate:
        grad_opened = (grad * en.to(dtype)).sum(1, keepdim=True)
        grad_opened -= (kernels * grad_kernels).sum(1, keepdim=True)
        grad_gate.copy_(_sum_to_low(grad_opened, gate, blocks) * opened * (1 - opened))
    if needs_en:
        grad_en.copy_(grad * opened_up)
    if needs_logits or needs_logits_de:
        if gate is not None:
            grad_kernels *= 1 - opened_up
        if problem.softmax:
            grad_kernels -= (kernels * grad_kernels).sum(1, keepdim=True)
            grad_kernels *= kernels
    if needs_logits:
        grad_logits.copy_(grad_kernels)
    if needs_logits_de:
        grad_logits_de.copy_(_sum_to_low(grad_kernels, logits_de, blocks))
    return grads


def why_not(*tensors: Tensor) -> str | None:
    """Why this backend cannot compute with the tensors: it always can."""
    return None


class _Block(NamedTuple):
    """Output points that read around consecutive low-resolution points.

    Attributes:
        points: Index of the output points in an ``(N, C, h, w)`` tensor.
        top, left: The first low-resolution point.
        height, width: How many points there are.
    """

    points: Index
    top: int
    left: int
    height: int
    width: int

    def window(self, u: int = 0, v: int = 0) -> Index:
        """Index of the low-resolution points, moved down by ``u`` and to the right by ``v``."""
        rows = slice(self.top + u, self.top + u + self.height)
        cols = slice(self.left + v, self.left + v + self.width)
        return (slice(None), slice(None), rows, cols)


def _blocks(problem: Problem) -> Iterator[_Block]:
    """The blocks that cover the output: one a sub-pixel phase, and those of an overhang."""
    size, low = problem.size, problem.low
    columns = list(_runs(size[1], low[1], problem.step))
    for rows, top, height in _runs(size[0], low[0], problem.step):
        for cols, left, width in columns:
            points = (slice(None), slice(None), rows, cols)
            yield _Block(points, top, left, height, width)


def _runs(size: int, low: int, step: int) -> Iterator[tuple[slice, int, int]]:
    """Along one axis: output points, the first low-resolution point they read, their number."""
    covered = min(size, low * step)
    for phase in range(min(step, covered)):
        yield slice(phase, covered, step), 0, len(range(phase, covered, step))
    for point in range(covered, size):
        yield slice(point, point + 1), low - 1, 1


def _kernels(problem: Problem, blocks: list[_Block]) -> Tensor:
    dtype = problem.accumulated
    kernels = problem.logits.to(dtype)
    if problem.logits_de is not None:
        kernels = kernels + _nearest_up(problem.logits_de.to(dtype), problem.size, blocks)
    return kernels.softmax(1) if problem.softmax else kernels


def _nearest_up(x: Tensor, size: torch.Size, blocks: list[_Block]) -> Tensor:
    """``x`` ``(N, C, H, W)`` brought to a size."""
    out = x.new_empty((*x.shape[:2], *size))
    for block in blocks:
        out[block.points] = x[block.window()]
    return out


def _sum_to_low(x: Tensor, like: Tensor, blocks: list[_Block]) -> Tensor:
    """The adjoint of `_nearest_up`: ``x`` summed to the size of ``like``."""
    out = x.new_zeros((*x.shape[:2], *like.shape[2:]))
    for block in blocks:
        out[block.window()] += x[block.points]
    return out
