"""The four scores of image matting: SAD, MSE, Grad and Conn (Rhemann et al., CVPR 2009)."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric

from fade_mm.registry import METRICS

_UNKNOWN = 128  # in a trimap
_SIGMA = 1.4  # of the Gaussian whose derivatives are the gradient
_SCORES = ('SAD', 'MSE', 'Grad', 'Conn')


@METRICS.register_module()
class MattingMetric(BaseMetric):
    """SAD, MSE, Grad and Conn over the unknown region, averaged over pictures.

    Two programs are in use, whose scores differ a little:

    - ``'python'``, that of IndexNet and A2U Matting, which FADE's published SAD and Grad are from:
      alphas as they are predicted, stretched to 0 to 1.
    - ``'matlab'``, that of Deep Image Matting (Xu et al., CVPR 2017), which most papers use: alphas
      of 8 bits, rounded down as A2U Matting saves them, and another kernel and scale of Grad, whose
      alphas alone are stretched.

    SAD, Grad and Conn are sums, over 1,000 (Grad in Python: over 10). A picture without unknown
    pixels scores 0. An alpha of one value is not stretched.

    Args:
        protocol: ``'python'`` or ``'matlab'``. Default: ``'python'``.
        subset: Which samples count, where the data set is several: those that name it in their
            metainfo. Default: all.
        collect_device, prefix: As in mmengine's ``BaseMetric``.
    """

    better = dict.fromkeys(_SCORES, 'less')

    def __init__(
        self,
        protocol: str = 'python',
        subset: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if protocol not in ('python', 'matlab'):
            raise ValueError(f"protocol must be 'python' or 'matlab', got {protocol!r}")
        self.protocol = protocol
        self.subset = subset

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Score the samples of one batch.

        Args:
            data_batch: Unused.
            data_samples: Samples with ``pred_alpha`` ``(h, w)``, ``gt_alpha`` ``(1, h, w)``, both 0
                to 1, and ``trimap`` ``(1, h, w)``: 0, 128 and 255.
        """
        for sample in data_samples:
            if self.subset not in (None, sample.get('subset')):
                self.results.append(None)  # results of all processes are as many as samples
                continue
            if 'gt_alpha' not in sample:
                raise ValueError(
                    f'{sample.get("img_path", "a sample")} has no alpha to measure against; leave '
                    'MattingMetric out of the evaluator'
                )
            operands = sample['pred_alpha'], sample['gt_alpha'][0], sample['trimap'][0]
            pred, truth, trimap = (x.cpu().numpy() for x in operands)
            self.results.append(matting_scores(pred, truth, trimap, self.protocol))

    def compute_metrics(self, results: list[dict | None]) -> dict[str, float]:
        """The means of the scores of all samples."""
        counted = [x for x in results if x is not None]
        return {
            name: float(np.mean([x[name] for x in counted])) if counted else math.nan
            for name in _SCORES
        }


def matting_scores(
    pred: np.ndarray, truth: np.ndarray, trimap: np.ndarray, protocol: str = 'python'
) -> dict[str, float]:
    """The four scores of one picture.

    Args:
        pred, truth: Alphas ``(h, w)``, 0 to 1.
        trimap: ``(h, w)``: 0, 128 and 255.
        protocol: See `MattingMetric`. Default: ``'python'``.
    """
    unknown = trimap == _UNKNOWN
    if not unknown.any():
        return dict.fromkeys(_SCORES, 0.0)
    pred, truth = (x.astype(np.float32) for x in (pred, truth))
    if protocol == 'matlab':
        pred, truth = (np.floor(255 * x) / np.float32(255) for x in (pred, truth))
        grad = gradient_error(_stretched(pred), _stretched(truth), unknown, _matlab_kernels(), 1000)
    else:
        pred, truth = _stretched(pred), _stretched(truth)
        grad = gradient_error(pred, truth, unknown, _python_kernels(), 10)
    off = np.abs(pred - truth)[unknown].astype(np.float64)
    return dict(
        SAD=float(off.sum() / 1000),
        MSE=float(np.square(off).mean()),
        Grad=grad,
        Conn=connectivity_error(pred, truth, unknown),
    )


def gradient_error(
    pred: np.ndarray,
    truth: np.ndarray,
    unknown: np.ndarray,
    kernels: tuple[np.ndarray, np.ndarray, int],
    scale: float,
) -> float:
    """The sum of squared differences of gradient magnitudes, over a scale.

    Args:
        pred, truth: Alphas ``(h, w)``, float32.
        unknown: Where it counts ``(h, w)``.
        kernels: A Gaussian, its derivative, and how OpenCV continues alphas beyond the frame.
        scale: What the sum is divided by.
    """
    gauss, derivative, border = kernels
    magnitudes = []
    for alpha in (pred, truth):
        dx = cv2.sepFilter2D(alpha, cv2.CV_32F, derivative, gauss, borderType=border)
        dy = cv2.sepFilter2D(alpha, cv2.CV_32F, gauss, derivative, borderType=border)
        magnitudes.append(np.hypot(dx, dy))
    off = (magnitudes[0] - magnitudes[1])[unknown].astype(np.float64)
    return float(np.square(off).sum() / scale)


def connectivity_error(pred: np.ndarray, truth: np.ndarray, unknown: np.ndarray) -> float:
    """The sum of differences of how far pixels hang together with the largest opaque region.

    With ``l`` the greatest of the thresholds 0, 0.1, ..., 1 up to which a pixel belongs to the
    largest 4-connected region where both alphas reach the threshold, an alpha ``a`` has
    ``d = a - l`` and, from 0.15 on, the degree ``1 - d``, else 1. A threshold that both reach
    nowhere is passed over.

    Args:
        pred, truth: Alphas ``(h, w)``, float32.
        unknown: Where it counts ``(h, w)``.
    """
    last = np.full(pred.shape, -1, np.float32)
    for step in range(1, 11):
        threshold = np.float32(step / 10)
        both = ((pred >= threshold) & (truth >= threshold)).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(both, connectivity=4)
        if len(stats) == 1:  # there is background alone
            continue
        largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
        last[(last == -1) & (labels != largest)] = (step - 1) / 10
    last[last == -1] = 1
    degrees = [1 - np.where(d >= 0.15, d, 0) for d in (pred - last, truth - last)]
    return float(np.abs(degrees[0] - degrees[1])[unknown].astype(np.float64).sum() / 1000)


def _stretched(alpha: np.ndarray) -> np.ndarray:
    low, high = alpha.min(), alpha.max()
    return (alpha - low) / (high - low) if low < high else alpha


def _gaussian(radius: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    gauss = np.exp(-(x**2) / (2 * _SIGMA**2))
    return gauss, -x / _SIGMA**2 * gauss


def _python_kernels() -> tuple[np.ndarray, np.ndarray, int]:
    """Those of scipy's ``gaussian_filter``, cut off at four sigmas."""
    gauss, derivative = _gaussian(round(4 * _SIGMA))
    return gauss / gauss.sum(), derivative / gauss.sum(), cv2.BORDER_REFLECT


def _matlab_kernels() -> tuple[np.ndarray, np.ndarray, int]:
    """Those of ``gaussgradient``: the outer product has norm 1, cut off where it is below 0.01."""
    radius = math.ceil(_SIGMA * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * _SIGMA * 0.01)))
    gauss, derivative = _gaussian(radius)
    unit = gauss / np.linalg.norm(gauss), derivative / np.linalg.norm(derivative)
    return (*unit, cv2.BORDER_REPLICATE)
