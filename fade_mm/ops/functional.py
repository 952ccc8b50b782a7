"""The functions that upsamplers call. Which kernel computes them is nobody else's business."""

from torch import Tensor

from . import dispatch, library
from .checks import check_operands
from .fx import leaf


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
        backend: The backend that must compute it, a key of `backends`. Default: that of
            `use_backend`, or else the fastest that can.

    Returns:
        The upsampled feature ``(N, C, h, w)`` in the dtype of ``de``; half-precision inputs are
        accumulated in float32.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: shapes or devices do not fit, or there is no such backend.
        RuntimeError: the backend cannot compute with these tensors.

    Source: CARAFE (arXiv 1905.02188), section 3.2.
    """
    dispatch.check_backend(backend)
    check_operands(de, kernels, None, None, None, scale_factor, softmax=False)
    backend = backend or dispatch.preferred_backend()
    return library.gated_reassemble(de, kernels, None, None, None, scale_factor, False, backend)


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
        backend: The backend that must compute it, a key of `backends`. Default: that of
            `use_backend`, or else the fastest that can.

    Returns:
        The upsampled feature ``(N, C, h, w)`` in the dtype of ``de``; half-precision inputs are
        accumulated in float32.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: shapes or devices do not fit, only one of ``gate`` and ``en`` is given, or
            there is no such backend.
        RuntimeError: the backend cannot compute with these tensors.

    Source: FADE (arXiv 2207.10392), section 4.
    """
    dispatch.check_backend(backend)
    check_operands(de, logits, logits_de, gate, en, scale_factor, softmax=True)
    backend = backend or dispatch.preferred_backend()
    return library.gated_reassemble(de, logits, logits_de, gate, en, scale_factor, True, backend)
