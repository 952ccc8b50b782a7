"""Errors of monocular depth, over whole pictures and at depth discontinuities."""

import logging
from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from prettytable import PrettyTable

from fade_mm.registry import METRICS

SCORES = {  # in the order of the columns that `depth_errors` gives
    'd1': 'greater',
    'd2': 'greater',
    'd3': 'greater',
    'abs_rel': 'less',
    'sq_rel': 'less',
    'rmse': 'less',
    'rmse_log': 'less',
    'log10': 'less',
    'silog': 'less',
}
_GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)  # of height, height, width, width
_EIGEN = (45, 471, 41, 601)  # of 480 x 640


@METRICS.register_module()
class DepthMetric(BaseMetric):
    """Errors of predicted depth, per picture and averaged over pictures, as BTS's evaluation.

    ``d1``, ``d2``, ``d3`` (shares of pixels within 1.25, 1.25^2, 1.25^3), ``abs_rel``, ``sq_rel``,
    ``rmse``, ``rmse_log``, ``log10``, and ``silog``, 100 times the standard deviation of the
    difference of logarithms; and the same with ``edge_`` before the name, of pixels near a depth
    discontinuity alone. Pictures without a pixel that counts are left out, and counted in the log.

    Predictions are clamped to the range of depths, where mmsegmentation's ``DepthMetric`` takes
    them as they are, and has no factor of 100 and another silog.

    Args:
        min_depth, max_depth: Pixels count whose true depth is between them, in metres.
            Default: 0.001 and 10.0.
        crop: The part of a picture that counts: ``'eigen'`` (made for 480 x 640, at other sizes in
            proportion), ``'garg'``, four numbers (first row, the row after the last, first column,
            the column after the last), or ``None``, all. Default: ``None``.
        border: Width in pixels of a frame around each picture whose depth is not valid: it neither
            counts nor has discontinuities. Default: 0.
        edge_ratio: Neighbours whose depths have a larger ratio are a discontinuity. Default: 1.25.
        edge_width: Distance in pixels up to which a pixel is near one. Default: 5.
        collect_device, prefix: As in mmengine's ``BaseMetric``.

    Raises:
        ValueError: an argument is wrong.
    """

    better = SCORES | {f'edge_{name}': rule for name, rule in SCORES.items()}

    def __init__(
        self,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        crop: str | Sequence[int] | None = None,
        border: int = 0,
        edge_ratio: float = 1.25,
        edge_width: float = 5,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not 0 < min_depth < max_depth:
            raise ValueError(
                f'min_depth must be positive and below max_depth, got {min_depth} and {max_depth}'
            )
        crop_box(crop, (480, 640))
        self.min_depth = min_depth
        self.max_depth = max_depth
        self.crop = crop
        self.border = border
        self.edge_ratio = edge_ratio
        self.edge_width = edge_width

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Score the samples of one batch.

        Args:
            data_batch: Unused.
            data_samples: Samples with depth in metres, ``(1, h, w)``, in ``pred_depth_map`` and
                ``gt_depth_map``.
        """
        for sample in data_samples:
            if 'gt_depth_map' not in sample:
                raise ValueError(
                    f'{sample.get("img_path", "a sample")} has no depth map to score against; '
                    'leave DepthMetric out of the evaluator'
                )
            pred, truth = (
                sample[name]['data'].squeeze(0).double().cpu().numpy()
                for name in ('pred_depth_map', 'gt_depth_map')
            )
            self.results.append(self.score(pred, truth))

    def score(self, pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """The scores of a picture, ``(2, 9)``: of all pixels and of those at edges.

        Args:
            pred, truth: Depth in metres, ``(h, w)``.
        """
        if pred.shape != truth.shape:
            raise ValueError(
                f'predicted depth {pred.shape} has another size than the truth {truth.shape}; do '
                'not resize the truth in the test pipeline'
            )
        pred = np.nan_to_num(pred, nan=self.min_depth, posinf=self.max_depth)
        pred = pred.clip(self.min_depth, self.max_depth)
        return np.stack([depth_errors(pred[x], truth[x]) for x in self.masks(truth)])

    def masks(self, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which pixels count, and which of these are near an edge, each ``(h, w)``.

        Args:
            truth: True depth in metres, ``(h, w)``.
        """
        valid = (truth > self.min_depth) & (truth < self.max_depth)
        if self.border:
            valid &= _within(truth.shape, (self.border, -self.border) * 2)
        counts = valid & _within(truth.shape, crop_box(self.crop, truth.shape))
        return counts, counts & near_edges(truth, valid, self.edge_ratio, self.edge_width)

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """The means of the scores of all pictures that have any; logs them as a table."""
        scores = np.stack(results)  # pictures, all pixels or edges, scores
        without = np.isnan(scores[..., 0]).sum(0)
        found = {}
        table = PrettyTable(['', *SCORES])
        for i, (prefix, place) in enumerate((('', 'all pixels'), ('edge_', 'at edges'))):
            known = scores[~np.isnan(scores[:, i, 0]), i]
            means = known.mean(0) if len(known) else np.full(len(SCORES), np.nan)
            found |= {f'{prefix}{name}': float(x) for name, x in zip(SCORES, means, strict=True)}
            table.add_row([place, *means.round(4)])
        logger = MMLogger.get_current_instance()
        print_log(
            f'{table}\nleft out of {len(scores)} pictures: {without[0]} without a pixel of '
            f'{self.min_depth} to {self.max_depth} m, {without[1]} without one near an edge',
            logger=logger,
        )
        if without[0] == len(scores):
            print_log(
                'no depth map has a pixel that counts: look at depth_rescale_factor, which makes '
                'metres of stored values, at max_depth, and at crop',
                logger=logger,
                level=logging.WARNING,
            )
        return found


def depth_errors(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The scores of some pixels, in the order of `SCORES`; not a number where there are none.

    Args:
        pred, truth: Positive depths ``(n,)`` of the same pixels.
    """
    if not len(truth):
        return np.full(len(SCORES), np.nan)
    ratio = np.maximum(pred / truth, truth / pred)
    difference, log = pred - truth, np.log(pred) - np.log(truth)
    return np.array(
        [
            *((ratio < 1.25**i).mean() for i in (1, 2, 3)),
            (np.abs(difference) / truth).mean(),
            (difference**2 / truth).mean(),
            np.sqrt((difference**2).mean()),
            np.sqrt((log**2).mean()),
            np.abs(log).mean() / np.log(10),
            100 * log.std(),
        ]
    )


def near_edges(truth: np.ndarray, valid: np.ndarray, ratio: float, width: float) -> np.ndarray:
    """Which pixels are near a depth discontinuity.

    A discontinuity is two neighbours in a row or column, both valid, whose depths have a ratio
    above ``ratio``; both pixels belong to it.

    Args:
        truth: Depth ``(h, w)``.
        valid: Where it is known, ``(h, w)``.
        ratio: Ratio of two neighbours' depths.
        width: Largest distance from a discontinuity's pixel, in pixels.

    Returns:
        A mask ``(h, w)``.
    """
    edge = np.zeros(truth.shape, bool)
    log = np.log(np.where(valid, truth, 1.0))
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        jump = valid[one] & valid[other] & (np.abs(log[one] - log[other]) > np.log(ratio))
        edge[one] |= jump
        edge[other] |= jump
    if not edge.any():
        return edge
    distance = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= width


def crop_box(crop: str | Sequence[int] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """First row, the row after the last, first column, the column after the last.

    Args:
        crop: As in `DepthMetric`.
        size: Height and width of the picture.

    Raises:
        ValueError: there is no such crop.
    """
    h, w = size
    if crop is None:
        return 0, h, 0, w
    if crop == 'eigen':
        top, bottom, left, right = _EIGEN
        return top * h // 480, -(-bottom * h // 480), left * w // 640, -(-right * w // 640)
    if crop == 'garg':
        return tuple(int(x * n) for x, n in zip(_GARG, (h, h, w, w), strict=True))
    if not isinstance(crop, str) and len(crop) == 4 and all(isinstance(x, int) for x in crop):
        top, bottom, left, right = crop
        if 0 <= top < bottom and 0 <= left < right:
            return top, bottom, left, right
    raise ValueError(
        "crop must be 'eigen', 'garg', four numbers (top, bottom, left, right) or None, got "
        f'{crop!r}'
    )


def _within(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of a box, whose ends may be counted from the end."""
    mask = np.zeros(size, bool)
    top, bottom, left, right = box
    mask[top:bottom, left:right] = True
    return mask
