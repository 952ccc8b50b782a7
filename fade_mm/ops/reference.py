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

from .checks import kernel_size_of

Index = tuple[slice, ...]


def forward(
    de: Tensor,
    logits: Tensor,
    logits_de: Tensor | None,
    gate: Tensor | None,
    en: Tensor | None,
    scale_factor: int,
    softmax: bool,
) -> Tensor:
    """Softmax (unless ``softmax`` is off), reassembly and gate; see `ops.gated_reassemble`."""
    blocks = list(_blocks(logits.shape[2:], de.shape[2:], scale_factor))
    dtype = _accumulation_dtype(de)
    kernels = _kernels(logits, logits_de, blocks, softmax, dtype)
    kernel_size = kernel_size_of('logits', logits)
    padded = F.pad(de.to(dtype), [kernel_size // 2] * 4)
    out = empty_output(de, logits, dtype)
    for block in blocks:
        taps = kernels[block.points].contiguous().split(1, dim=1)
        y = padded[block.window(0, 0)] * taps[0]
        for tap in range(1, len(taps)):
            y.addcmul_(padded[block.window(*divmod(tap, kernel_size))], taps[tap])
        out[block.points] = y
    if gate is not None:
        opened = _nearest_up(gate.to(dtype).sigmoid(), en, blocks)
        # Not `lerp_`, whose difference of the two is NaN where only one of them is infinite.
        out.mul_(1 - opened).addcmul_(en.to(dtype), opened)
    return out.to(de.dtype)


def backward(
    grad: Tensor,
    de: Tensor,
    logits: Tensor,
    logits_de: Tensor | None,
    gate: Tensor | None,
    en: Tensor | None,
    scale_factor: int,
    softmax: bool,
) -> list[Tensor]:
    """Gradients of the tensors that were given, in the order of the arguments.

    Everything is recomputed from the arguments of `forward`. The reassembled feature is not
    needed: its product with ``grad``, summed over the channels, is that of the kernels with their
    own gradient, summed over the taps.
    """
    blocks = list(_blocks(logits.shape[2:], de.shape[2:], scale_factor))
    dtype = _accumulation_dtype(de)
    grad = grad.to(dtype)
    kernels = _kernels(logits, logits_de, blocks, softmax, dtype)
    kernel_size = kernel_size_of('logits', logits)
    radius = kernel_size // 2
    padded = F.pad(de.to(dtype).contiguous(), [radius] * 4)
    opened = None if gate is None else gate.to(dtype).sigmoid()
    opened_up = None if gate is None else _nearest_up(opened, en, blocks)
    weights = kernels if gate is None else kernels * (1 - opened_up)

    grad_kernels = torch.empty_like(kernels)
    grad_padded = torch.zeros_like(padded)
    for block in blocks:
        grad_y = grad[block.points].contiguous()
        taps = weights[block.points].contiguous().split(1, dim=1)
        grad_taps = []
        for tap in range(len(taps)):
            window = block.window(*divmod(tap, kernel_size))
            grad_taps.append((padded[window] * grad_y).sum(1))
            grad_padded[window].addcmul_(grad_y, taps[tap])
        grad_kernels[block.points] = torch.stack(grad_taps, dim=1)
    H, W = de.shape[2:]
    grads = {'de': grad_padded[:, :, radius : radius + H, radius : radius + W]}

    if gate is not None:
        grad_opened = (grad * en.to(dtype)).sum(1, keepdim=True)
        grad_opened -= (kernels * grad_kernels).sum(1, keepdim=True)
        grads['gate'] = _sum_to_low(grad_opened, gate, blocks) * opened * (1 - opened)
        grads['en'] = grad * opened_up
        grad_kernels *= 1 - opened_up
    if softmax:
        grad_kernels -= (kernels * grad_kernels).sum(1, keepdim=True)
        grad_kernels *= kernels
    grads['logits'] = grad_kernels
    if logits_de is not None:
        grads['logits_de'] = _sum_to_low(grad_kernels, logits_de, blocks)
    given = dict(de=de, logits=logits, logits_de=logits_de, gate=gate, en=en)
    return [torch.empty_like(x).copy_(grads[name]) for name, x in given.items() if x is not None]


def why_not(*tensors: Tensor) -> str | None:
    """Why this backend cannot compute with the tensors: it always can."""
    return None


def empty_output(de: Tensor, logits: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Room for the output, in the memory format of ``de`` and, by default, in its dtype."""
    return torch.empty(
        (*de.shape[:2], *logits.shape[2:]),
        dtype=dtype or de.dtype,
        device=de.device,
        memory_format=memory_format(de),
    )


def memory_format(x: Tensor) -> torch.memory_format:
    """The memory format of ``x``: channels-last only where that is unambiguous."""
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    return torch.channels_last


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


def _blocks(size: torch.Size, low: torch.Size, scale_factor: int) -> Iterator[_Block]:
    """The blocks that cover the output: one a sub-pixel phase, and those of an overhang."""
    step = 1 if size == low else scale_factor
    columns = list(_runs(size[1], low[1], step))
    for rows, top, height in _runs(size[0], low[0], step):
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


def _accumulation_dtype(de: Tensor) -> torch.dtype:
    return torch.promote_types(de.dtype, torch.float32)


def _kernels(
    logits: Tensor,
    logits_de: Tensor | None,
    blocks: list[_Block],
    softmax: bool,
    dtype: torch.dtype,
) -> Tensor:
    kernels = logits.to(dtype)
    if logits_de is not None:
        kernels = kernels + _nearest_up(logits_de.to(dtype), logits, blocks)
    return kernels.softmax(1) if softmax else kernels


def _nearest_up(x: Tensor, like: Tensor, blocks: list[_Block]) -> Tensor:
    """``x`` ``(N, C, H, W)`` brought to the size of ``like``."""
    out = x.new_empty((*x.shape[:2], *like.shape[2:]))
    for block in blocks:
        out[block.points] = x[block.window()]
    return out


def _sum_to_low(x: Tensor, like: Tensor, blocks: list[_Block]) -> Tensor:
    """The adjoint of `_nearest_up`: ``x`` summed to the size of ``like``."""
    out = x.new_zeros((*x.shape[:2], *like.shape[2:]))
    for block in blocks:
        out[block.window()] += x[block.points]
    return out
