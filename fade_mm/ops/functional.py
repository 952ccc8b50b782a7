"""The functions that upsamplers call. Which kernel computes them is nobody else's business."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import decomposition, eager, operator
from .backend import use_backend
from .checks import check_positive, is_tracing
from .fx import leaf
from .problem import Problem


@leaf
def reassemble(
    de: Tensor, kernels: Tensor, scale_factor: int = 2, *, backend: str | None = None
) -> Tensor:
    """Reassemble a feature with one kernel per output point.

    The output at ``(i, j)`` is the sum of the ``K x K`` points of ``de`` around
    ``(i // scale_factor, j // scale_factor)``, weighted with ``kernels[:, :, i, j]``, zero outside
    of ``de``. Several kernel groups are computed as a larger batch.

    Args:
        de: Decoder feature ``(N, C, H, W)``.
        kernels: Normalised kernels ``(N, K*K, h, w)``, K odd, in row-major order. ``H`` is
            ``h / scale_factor``, rounded up or down, and ``W`` likewise; a row or a column that
            rounding down left over reads where the last one does. With ``h == H`` and ``w == W``,
            the scale factor is 1 for that call.
        scale_factor: Ratio of the two resolutions. Default: 2.
        backend: The backend that must compute it, a key of `backends`; a compiled or exported
            program has none. Default: that of `use_backend`, or else the fastest that can.

    Returns:
        The upsampled feature ``(N, C, h, w)`` in the dtype of ``de``; half-precision inputs are
        accumulated in float32.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: shapes or devices do not fit, or there is no such backend.
        RuntimeError: the backend cannot compute with these tensors.

    Source: CARAFE (arXiv 1905.02188), section 3.2.

    Example:
        >>> import torch
        >>> from fade_mm.ops import reassemble
        >>> kernels = torch.rand(1, 25, 7, 9).softmax(1)
        >>> reassemble(torch.rand(1, 8, 4, 5), kernels).shape
        torch.Size([1, 8, 7, 9])
    """
    return _call(backend, de, kernels, None, None, None, scale_factor, False)


@leaf
def gated_reassemble(
    de: Tensor,
    logits: Tensor,
    *,
    logits_de: Tensor | None = None,
    gate: Tensor | None = None,
    en: Tensor | None = None,
    scale_factor: int = 2,
    backend: str | None = None,
) -> Tensor:
    """Softmax, reassembly and decoder-dependent gate in one call.

    With ``up`` for nearest-neighbour upsampling::

        y = reassemble(de, softmax(logits + up(logits_de)))
        g = sigmoid(up(gate))
        out = g * en + (1 - g) * y      # y without a gate

    Args:
        de: Decoder feature ``(N, C, H, W)``.
        logits: Kernel logits ``(N, K*K, h, w)`` at the output's resolution; see `reassemble` for
            the sizes that fit.
        logits_de: Kernel logits ``(N, K*K, H, W)`` at low resolution. Default: none.
        gate: The gate before the sigmoid, ``(N, 1, H, W)``; needs ``en``. Default: no gate.
        en: Encoder feature ``(N, C, h, w)``; needs ``gate``. Default: none.
        scale_factor: Ratio of the two resolutions. Default: 2.
        backend: The backend that must compute it, a key of `backends`; a compiled or exported
            program has none. Default: that of `use_backend`, or else the fastest that can.

    Returns:
        The upsampled feature ``(N, C, h, w)`` in the dtype of ``de``; half-precision inputs are
        accumulated in float32.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: shapes or devices do not fit, only one of ``gate`` and ``en`` is given, or
            there is no such backend.
        RuntimeError: the backend cannot compute with these tensors.

    Source: FADE (arXiv 2207.10392), section 4.

    Example:
        >>> import torch
        >>> from fade_mm.ops import gated_reassemble
        >>> de, logits = torch.rand(1, 8, 4, 5), torch.rand(1, 25, 7, 9)
        >>> gate, en = torch.rand(1, 1, 4, 5), torch.rand(1, 8, 7, 9)
        >>> gated_reassemble(de, logits, gate=gate, en=en).shape
        torch.Size([1, 8, 7, 9])
    """
    return _call(backend, de, logits, logits_de, gate, en, scale_factor, True)


def _call(backend: str | None, *arguments) -> Tensor:
    _check_types(*arguments)
    if eager.takes(backend, *arguments[:5]):
        return eager.gated_reassemble(*arguments)
    if _is_transformed(arguments):
        Problem(*arguments)  # checks them
        return decomposition.forward(*arguments)
    if is_tracing():
        return operator.gated_reassemble(*arguments)
    with use_backend(backend):
        return operator.gated_reassemble(*arguments)


def _check_types(*arguments) -> None:
    """Those that the operator would refuse in words of its own; all else is checked there."""
    *tensors, scale_factor, softmax = arguments
    check_positive(scale_factor=scale_factor)
    names = ('de', 'logits' if softmax else 'kernels', 'logits_de', 'gate', 'en')
    for name, x in zip(names, tensors, strict=True):
        if not isinstance(x, Tensor) and not (x is None and name in names[2:]):
            raise TypeError(f'{name} must be a tensor, got {type(x).__name__}')


def _is_transformed(arguments: tuple) -> bool:
    """Whether `torch.func` or forward-mode differentiation looks on, for which PyTorch takes no
    operator of one's own, or returns zeros."""
    if torch._C._are_functorch_transforms_active():
        return True
    return (
        not is_tracing()
        and forward_ad._current_level >= 0
        and any(
            forward_ad.unpack_dual(x).tangent is not None
            for x in arguments
            if isinstance(x, Tensor)
        )
    )
