"""Argument checks, shared by every backend and by the layers above."""

import operator
from collections.abc import Iterator, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

is_exporting = getattr(torch.compiler, 'is_exporting', lambda: False)
"""Whether `torch.export` looks on; releases that cannot say fix the sizes that they see."""


def is_tracing() -> bool:
    """Whether sizes may be symbolic, so that no Python code may depend on them."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def known(condition: bool | torch.SymBool) -> bool:
    """Whether a condition on sizes surely holds. Of symbolic sizes nothing is asked."""
    if torch.compiler.is_dynamo_compiling():
        return False  # its symbols pass for numbers
    if isinstance(condition, bool):
        return condition
    # `torch.jit.trace` makes sizes tensors, of which nothing is known.
    return isinstance(condition, torch.SymBool) and statically_known_true(condition)


def check_feature(name: str, x: Tensor, channels: int | None = None) -> None:
    """Raise unless ``x`` is a non-empty floating-point ``(N, C, H, W)`` tensor.

    Raises:
        TypeError: it is no floating-point tensor.
        ValueError: its rank, its size or its number of channels is wrong.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f'{name} must be a tensor, got {type(x).__name__}')
    if not x.is_floating_point():
        raise TypeError(f'{name} must have a floating-point dtype, got {x.dtype}')
    if x.dim() != 4:
        raise ValueError(f'{name} must have shape (N, C, H, W), got {tuple(x.shape)}')
    _, c, height, width = x.shape
    if known(c == 0) or known(height == 0) or known(width == 0):
        raise ValueError(f'{name} must have no empty channel or space, got {tuple(x.shape)}')
    if channels is not None and known(c != channels):
        raise ValueError(f'{name} must have {channels} channels, got shape {tuple(x.shape)}')


def check_dtypes(layer: nn.Module, **features: Tensor) -> None:
    """Raise unless the features have the dtype of a layer's weights, or autocast sees to it.

    Raises:
        TypeError: a feature has another dtype.
    """
    dtype = next((x.dtype for x in _weights(layer) if x.is_floating_point()), None)
    for name, x in features.items():
        if dtype not in (None, x.dtype) and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(
                f'{name} is {x.dtype}, but the layer is {dtype}; convert one of them, or use '
                'torch.autocast'
            )


def _weights(layer: nn.Module) -> Iterator[Tensor]:
    """The tensors that a layer's weights are, or are computed from.

    Those that are computed are not asked for: a spectral norm would change with every look.
    """
    for name in ('weight', 'original', 'original0'):
        # Replicas of `nn.DataParallel` and what FSDP flattens have attributes instead.
        x = layer._parameters.get(name, layer.__dict__.get(name))
        if isinstance(x, Tensor):
            yield x
    for part in layer._modules.values():  # `modules()` takes several times as long
        if part is not None:
            yield from _weights(part)


def check_pair(en_name: str, en: Tensor, de: Tensor, scale_factor: int) -> None:
    """Raise unless ``en`` ``(N, _, h, w)`` and ``de`` ``(N, _, H, W)`` belong together.

    Raises:
        ValueError: they lie on two devices, their batches differ, or their sizes do not fit
            ``scale_factor``.
    """
    if en.device != de.device:
        raise ValueError(
            f'{en_name} and de must be on the same device, got {en.device} and {de.device}'
        )
    if known(en.shape[0] != de.shape[0]):
        raise ValueError(
            f'{en_name} and de must have the same batch size, '
            f'got shapes {tuple(en.shape)} and {tuple(de.shape)}'
        )
    if _misfit(en, de, scale_factor) and differ(en.shape[2:], de.shape[2:]):
        raise ValueError(
            f'{en_name} and de do not fit scale_factor={scale_factor}: got shapes '
            f'{tuple(en.shape)} and {tuple(de.shape)}, but the height and the width of de must '
            f'be those of {en_name} divided by {scale_factor}, rounded up or down, or both be '
            f"equal to {en_name}'s"
        )


def differ(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes of one rank surely differ."""
    return any(map(known, map(operator.ne, shape, other)))  # a generator takes twice as long


def _misfit(en: Tensor, de: Tensor, s: int) -> bool:
    """Whether ``de`` surely has not the size of ``en`` divided by ``s``, rounded up or down."""
    (h, w), (H, W) = en.shape[2:], de.shape[2:]
    return known((h // s != H) & ((h + s - 1) // s != H)) or known(
        (w // s != W) & ((w + s - 1) // s != W)
    )


def check_positive(**values: int) -> None:
    """Raise unless each value is a positive integer.

    Raises:
        TypeError: a value is no integer.
        ValueError: a value is below 1.
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f'{name} must be an int, got {value!r}')
        if value < 1:
            raise ValueError(f'{name} must be at least 1, got {value}')


def check_odd(**values: int) -> None:
    """Raise unless each value is a positive odd integer.

    Raises:
        TypeError: a value is no integer.
        ValueError: a value is below 1 or even.
    """
    check_positive(**values)
    for name, value in values.items():
        if value % 2 == 0:
            raise ValueError(f'{name} must be odd, got {value}')


def kernel_size_of(name: str, kernels: Tensor) -> int:
    """The kernel size ``K`` of kernels or logits with ``K * K`` channels.

    Raises:
        ValueError: the number of channels is not the square of an odd number.
    """
    channels = kernels.shape[1]
    size = round(channels**0.5)
    if size * size != channels or size % 2 == 0:
        raise ValueError(
            f'{name} must have K*K channels, K odd (1, 9, 25, ...), got shape '
            f'{tuple(kernels.shape)}'
        )
    return size
