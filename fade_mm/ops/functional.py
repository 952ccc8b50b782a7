"""The functions that upsamplers call. Which kernel computes them is nobody else's business."""

from torch import Tensor

from . import dispatch, library
from .checks import check_feature, check_pair, check_positive, is_tracing, kernel_size_of


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
    _check(de, scale_factor, 'kernels', kernels, backend)
    backend = backend or dispatch.preferred_backend()
    return library.gated_reassemble(de, kernels, None, None, None, scale_factor, False, backend)


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
    _check(de, scale_factor, 'logits', logits, backend)
    if logits_de is not None:
        _check_like('logits_de', logits_de, (*logits.shape[:2], *de.shape[2:]), de)
    if (gate is None) != (en is None):
        given, missing = ('en', 'gate') if gate is None else ('gate', 'en')
        raise ValueError(f'gate and en go together, got {given} without {missing}')
    if gate is not None:
        _check_like('gate', gate, (de.shape[0], 1, *de.shape[2:]), de)
        _check_like('en', en, (*de.shape[:2], *logits.shape[2:]), de)
    backend = backend or dispatch.preferred_backend()
    return library.gated_reassemble(de, logits, logits_de, gate, en, scale_factor, True, backend)


def _check(de: Tensor, scale_factor: int, name: str, kernels: Tensor, backend: str | None) -> None:
    dispatch.check_backend(backend)
    check_positive(scale_factor=scale_factor)
    check_feature('de', de)
    check_feature(name, kernels)
    if not is_tracing():
        kernel_size_of(name, kernels)
    check_pair(name, kernels, de, scale_factor)


def _check_like(name: str, x: Tensor, shape: tuple[int, ...], de: Tensor) -> None:
    check_feature(name, x)
    if x.device != de.device:
        raise ValueError(f'{name} and de must be on the same device, got {x.device}, {de.device}')
    if not is_tracing() and x.shape != shape:
        raise ValueError(f'{name} must have shape {tuple(shape)}, got {tuple(x.shape)}')
