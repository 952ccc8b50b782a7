"""Kernels by group of channels: to the operator, every group is an image of its own."""

from collections.abc import Callable

from torch import Tensor

from fade_mm.ops import gated_reassemble
from fade_mm.ops.checks import check_positive


def check_groups(name: str, channels: int, up_group: int) -> None:
    """Raise unless channels can be divided into groups.

    Raises:
        TypeError: ``up_group`` is no integer.
        ValueError: it is below 1 or does not divide ``channels``, an argument called ``name``.
    """
    check_positive(up_group=up_group)
    if channels % up_group:
        raise ValueError(f'up_group must divide {name}, got {up_group} and {channels}')


def grouped(x: Tensor, up_group: int) -> Tensor:
    """``(N, C, H, W)`` as ``(N * up_group, C / up_group, H, W)``, the groups of an image in turn.

    A view, unless memory is channels last and there are several images.
    """
    return x if up_group == 1 else x.unflatten(1, (up_group, -1)).flatten(0, 1)


def reassemble_by_group(
    de: Tensor,
    logits: Tensor,
    up_group: int,
    *,
    logits_de: Tensor | None = None,
    gate: Tensor | None = None,
    en: Tensor | None = None,
    scale_factor: int = 2,
) -> Tensor:
    """`ops.gated_reassemble` with kernels for each group of channels, and one gate for all.

    Args:
        de, gate, en, scale_factor: As in `ops.gated_reassemble`.
        logits: Kernel logits ``(N, up_group * K*K, h, w)``.
        up_group: Groups of channels; divides those of ``de``.
        logits_de: Kernel logits ``(N, up_group * K*K, H, W)``. Default: none.

    Returns:
        The upsampled feature ``(N, C, h, w)``.
    """
    if up_group > 1:
        de, logits = grouped(de, up_group), grouped(logits, up_group)
        if logits_de is not None:
            logits_de = grouped(logits_de, up_group)
        if gate is not None:
            gate, en = grouped(gate.expand(-1, up_group, -1, -1), up_group), grouped(en, up_group)
    y = gated_reassemble(
        de, logits, logits_de=logits_de, gate=gate, en=en, scale_factor=scale_factor
    )
    return y if up_group == 1 else y.unflatten(0, (-1, up_group)).flatten(1, 2)


def each_group(fill: Callable[[Tensor], object], up_group: int) -> Callable[[Tensor], None]:
    """A start (see `base.start`) of each group's part of a weight as if it were a whole one."""

    def fill_parts(weight: Tensor) -> None:
        for part in weight.detach().chunk(up_group):
            fill(part)

    return fill_parts
